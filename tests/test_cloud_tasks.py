"""doit about clouds as the user meets it: which cloud, which image, in which order, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doit.task import Task
from doit_desk import DOIT, TINY, Desk
from pipeline_site import pretend_built
from publishing.site import serve

from xenkiln import cloud_tasks, tasks
from xenkiln.lab.cloud.account import open_account
from xenkiln.lab.cloud.profiles import PROFILES
from xenkiln.model.loader import load_image
from xenkiln.system.layout import PROJECT

CLOUD = "summary: A cloud\ndialect: eucalyptus-3.3\nbucket: images\n"
PREBUILT = "summary: A kernel and a root\nkernel: vmlinuz\nroot: root.img\n"
SLOW = ("boto3", "botocore", "cryptography", "moto", "paramiko", "dns")
CACHES = (tasks.images, cloud_tasks.clouds, cloud_tasks.publishables)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The default image, one that is not, one made elsewhere with a kernel and a root; two clouds."""
    desk = Desk(tmp_path / "recipes" / "images", tmp_path / "build")
    for kind in ("images", "clouds", "prebuilt"):
        (tmp_path / "recipes" / kind).mkdir(parents=True)
    desk.write("tiny")
    desk.write("small", default="false")
    write(desk, "clouds/lab", CLOUD.replace("3.3", "4.2") + "embedded: true\n")
    write(desk, "clouds/mine", CLOUD)
    write(desk, "prebuilt/ttylinux", PREBUILT)
    return desk


def write(desk: Desk, name: str, text: str) -> Path:
    path = desk.recipes.parent / f"{name}.yaml"
    path.write_text(text)
    return path


def add(desk: Desk, name: str, text: str) -> Path:
    """Another image recipe like tiny's, with this at its end."""
    return desk.write(name, f"{TINY}\n{text}\n", default="false")


Make = Callable[..., dict[str, Task]]


@pytest.fixture
def make(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Returns make(verb, the command line): the tasks of a verb by name, as doit gets them."""
    monkeypatch.setenv("XENKILN_RECIPES", str(desk.recipes))

    def start(verb: str, *words: str, cloud: str | None = None) -> dict[str, Task]:
        monkeypatch.setattr(sys, "argv", ["doit", *words])
        monkeypatch.setattr(cloud_tasks, "get_var", lambda _name: cloud)
        for each in CACHES:
            each.cache_clear()
        if verb in cloud_tasks.CLOUD_VERBS:
            return {task.name: task for task in cloud_tasks.make_cloud_tasks(verb, "doc")}
        if verb in cloud_tasks.STEPS:
            after = {"bundle": "build", "upload": "bundle", "register": "upload"}[verb]
            return {task.name: task for task in cloud_tasks.make_component_tasks(verb, "doc", after=after)}
        return {task.name: task for task in cloud_tasks.make_publish_tasks(verb, "doc")}

    yield start
    for each in CACHES:
        each.cache_clear()


def run_alone(task: Task) -> str:
    """What its action fails with."""
    task.init_options()
    (action,) = task.actions
    return str(action.execute())


def test_everything_is_listed_with_its_components_and_what_is_broken(desk: Desk) -> None:
    write(desk, "clouds/small", CLOUD)
    write(desk, "prebuilt/mine", PREBUILT)
    lines = desk.succeed("list", "--all").splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    wanted = ["bundle", "bundle:small", "bundle:small:kernel", "bundle:small:ramdisk", "bundle:small:root",
              "bundle:tiny", "bundle:tiny:kernel", "bundle:tiny:ramdisk", "bundle:tiny:root", "bundle:ttylinux",
              "bundle:ttylinux:kernel", "bundle:ttylinux:root", "bundle:mine", "bundle:all"]  # fmt: skip
    assert sorted(name for name in listed if name.startswith("bundle")) == sorted(wanted)
    assert [name for name in listed if name.startswith("prune")] == ["prune", "prune:lab", "prune:mine", "prune:small",
                                                                     "prune:all"]  # fmt: skip
    # Two kinds may not share a name.
    assert listed["prune:small"] == listed["publish:mine"] == "this recipe has errors"
    assert listed["publish:small"] == listed["publish:tiny"] == "Small busybox guest, from packages made on this host"


def test_a_name_of_two_kinds_is_refused_where_it_is_not_an_image(desk: Desk, make: Make) -> None:
    cloud, prebuilt = write(desk, "clouds/small", CLOUD), write(desk, "prebuilt/mine", PREBUILT)
    assert f"{cloud}: an image is called small too: rename one" in run_alone(make("prune")["prune:small"])
    assert f"{prebuilt}: a cloud is called mine too: rename one" in run_alone(make("publish")["publish:mine"])


@pytest.mark.parametrize(("word", "answer"), [
    ("cloud=mime", "there is no cloud mime; did you mean 'mine'?"),
    ("cloud=", "there is no cloud ; known: lab, mine"),
    ("clod=mine", "the only variable is cloud=NAME"),
    ("cloud-name=mine", "the only variable is cloud=NAME"),
])  # fmt: skip
def test_a_cloud_that_is_none_ends_the_run(
    word: str, answer: str, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make("publish")
    with pytest.raises(SystemExit) as caught:
        cloud_tasks.refuse_unknown_words(["publish:tiny", word])
    assert caught.value.code == 3
    assert capsys.readouterr().err == f"{word}: {answer}\n"
    cloud_tasks.refuse_unknown_words(["-n2", "publish:tiny", "--key=mine", "cloud=mine"])


@pytest.mark.parametrize(("word", "answer"), [
    ("bundle:tiny:kernal", "there is no component kernal; did you mean 'kernel'?"),
    ("upload:tinny:kernel", "there is no recipe tinny; did you mean 'tiny'?"),
    ("register:tiny:small", "there is no component small; known: kernel, ramdisk, root"),
    ("bundle:all:kernel", "there is no recipe kernel; known: tiny, small"),
    ("publish:tiny:kernel", "there is no recipe kernel; known: tiny, small"),
])  # fmt: skip
def test_a_component_that_is_none_gets_a_suggestion(
    word: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        tasks.refuse_unknown_names(["bundle:tiny:kernel", "bundle:tiny", "bundle:all", word],
                                   {"bundle", "upload", "register", "publish"}, lambda _verb: ["tiny", "small"],
                                   parts=cloud_tasks.STEPS)  # fmt: skip
    assert caught.value.code == 3
    assert capsys.readouterr().err == f"{word}: {answer}\n"


def test_doit_says_it_the_same_way(desk: Desk) -> None:
    said = desk.fail("publish:tiny", "cloud=mime", code=3)
    assert said == "cloud=mime: there is no cloud mime; did you mean 'mine'?\n"
    said = desk.fail("bundle:tiny:kernal", code=3)
    assert said == "bundle:tiny:kernal: there is no component kernal; did you mean 'kernel'?\n"


def test_a_cloud_that_is_wrong_blocks_its_own_users_only(desk: Desk) -> None:
    path = write(desk, "clouds/bad", CLOUD + "keep: none\n")
    (desk.recipes / "hello.j2").write_text("#!/bin/sh\necho {{ hostname }} at {{ cloud }}\n")
    add(desk, "user", "publish: {cloud: bad}\nlaunch: {user_data: hello.j2}")
    text = add(desk, "lost", "publish:\n  cloud: mime").read_text()
    said = desk.fail("publish:user")
    assert f"{path}:4: keep: " in said
    line = text.splitlines().index("  cloud: mime") + 1
    lost = desk.fail("bundle:lost")
    assert f"lost.yaml:{line}: publish.cloud: there is no cloud mime; did you mean 'mine'?" in lost
    # With another cloud both are well, and the template is told which.
    assert desk.succeed("userdata:user", "cloud=mine") == "#!/bin/sh\necho tiny at mine\n"


def test_help_tells_the_options_and_they_reach_the_command(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    said = desk.succeed("help", "launch:tiny")
    options = ("type", "key", "group", "kernel", "ramdisk", "zone", "addressing", "address", "user-data-file")
    assert [name for name in options if not re.search(rf"--{name}\b", said)] == []
    write(desk, "clouds/ec2", "summary: Amazon\ndialect: amazon\naws_region: eu-west-1\n")
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "hunter2"}.items():
        monkeypatch.setenv(name, value)
    said = desk.fail("launch:tiny", "--kernel", "vmlinuz", "--address", "here", "cloud=ec2")
    assert "launch: not as it should be: address 'here', kernel 'vmlinuz'" in said
    assert "hunter2" not in said
    # A path is seen from where the user is, who may be elsewhere.
    (desk.build / "here").mkdir(parents=True)
    (desk.build / "here" / "hello.j2").write_text("#!/bin/sh\necho {{ nobody }}\n")
    elsewhere = (*DOIT, f"--file={PROJECT}/dodo.py")
    words = ("launch:tiny", "cloud=ec2", "--user-data-file", "hello.j2")
    code, said = desk.run(*words, doit=elsewhere, before=("env", "-C", str(desk.build / "here")))
    assert code == 1
    assert f"{desk.build}/here/hello.j2:2: 'nobody' is undefined" in said


def test_unbundle_takes_the_key_of_the_chosen_cloud(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "m.manifest.xml").write_text("<manifest/>")
    words = ("unbundle", "--manifest", f"{tmp_path}/m.manifest.xml", "--to", f"{tmp_path}/image")
    assert "m.manifest.xml: " in desk.fail(*words, "cloud=lab")
    write(desk, "clouds/bad", "summary: it\ndialect: none\n")
    assert "dialect" in desk.fail(*words, "cloud=bad")


def list_earlier(found: dict[str, Task], name: str) -> list[str]:
    return [word for word in found[name].task_dep if not word.startswith(("_", "build:"))]


def test_words_about_one_image_wait_for_each_other_in_their_order(make: Make) -> None:
    words = ("-n", "2", "publish:tiny", "publish:small", "launch:tiny", "console:tiny", "cloud=mine")
    assert list_earlier(make("console", *words), "console:tiny") == ["publish:tiny", "launch:tiny"]
    assert list_earlier(make("console", *words), "console:small") == []
    assert list_earlier(make("publish", *words), "publish:tiny") == []
    # The bare verb is the default image's, and VERB:all everyone's.
    bare = ("publish", "launch:all", "console", "console:small")
    assert list_earlier(make("launch", *bare), "launch:tiny") == ["publish:tiny"]
    assert list_earlier(make("launch", *bare), "launch:small") == []
    assert list_earlier(make("console", *bare), "console:tiny") == ["publish:tiny", "launch:tiny"]
    assert list_earlier(make("console", *bare), "console:small") == ["launch:small"]


def test_steps_in_the_wrong_order_are_done_in_the_right_one(make: Make) -> None:
    words = ("register:tiny", "upload:tiny", "bundle:tiny")
    found = {name: task for verb in cloud_tasks.STEPS for name, task in make(verb, *words).items()}
    for role in tasks.COMPONENTS:
        assert list_earlier(found, f"bundle:tiny:{role}")[:1] == (["bundle:tiny:kernel"] if role == "root" else [])
        assert f"bundle:tiny:{role}" in found[f"upload:tiny:{role}"].task_dep
        assert f"upload:tiny:{role}" in found[f"register:tiny:{role}"].task_dep
        assert not {"upload:tiny", "register:tiny"} & set(found[f"bundle:tiny:{role}"].task_dep)
        assert "register:tiny" not in found[f"upload:tiny:{role}"].task_dep


def test_a_bare_verb_is_about_the_default_image_or_the_chosen_cloud(desk: Desk, make: Make) -> None:
    assert make("publish")["publish"].task_dep == ["publish:tiny"]
    assert make("upload")["upload"].task_dep == ["upload:tiny"]
    assert make("prune")["prune"].task_dep == ["prune:lab"]
    assert make("prune", cloud="mine")["prune"].task_dep == ["prune:mine"]
    (desk.recipes.parent / "clouds" / "lab.yaml").unlink()
    assert "there is no recipe of a cloud lab\n  next: doit prune:NAME, with one of mine" in run_alone(
        make("prune")["prune"])  # fmt: skip
    # A default that is wrong is not passed over in silence.
    desk.write("tiny", memory_mib="lots")
    assert make("publish")["publish"].task_dep == ["publish:tiny"]
    assert "domain.memory_mib" in run_alone(make("publish")["publish:tiny"])


def test_an_image_goes_to_a_cloud_and_comes_back_in_one_run(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    folder.mkdir(mode=0o700)
    open_account(folder, PROFILES["3.4"])
    for name in ("vmlinuz", "root.img"):
        (desk.recipes.parent / "prebuilt" / name).write_bytes(name.encode() * 999)
    with serve(folder, "3.4"):
        write(desk, "clouds/mine", f"{CLOUD}credentials: {{eucarc: {folder}/credentials/eucarc}}\n")
        words = [f"{verb}:ttylinux" for verb in ("publish", "launch", "terminate", "deregister")]
        said = desk.succeed("-n", "2", *words, "cloud=mine")
    places = [re.search(rf"^{word}  ", said, re.MULTILINE) for word in words]
    assert all(places), said
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    assert re.search(r"^terminate:ttylinux  i-\w+ has ended$", said, re.MULTILINE)
    assert re.search(r"^deregister:ttylinux  emi-\w+, eki-\w+$", said, re.MULTILINE)


def test_what_asks_no_cloud_imports_no_client_of_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENKILN_BUILD", str(desk.build))
    monkeypatch.setenv("XENKILN_RECIPES", str(desk.recipes))
    pretend_built(load_image(desk.recipes / "tiny.yaml"))
    timed = (sys.executable, "-X", "importtime", *DOIT[1:])
    for words in (["list", "--all"], ["build"]):
        said = desk.succeed(*words, doit=timed)
        imported = set(re.findall(r"^import time: .*\| +(\w+)", said, re.MULTILINE))
        assert "xenkiln" in imported
        assert imported.isdisjoint(SLOW)


def test_every_verb_that_the_pages_name_is_there() -> None:
    found = re.findall(r"^def task_(\w+)", (PROJECT / "dodo.py").read_text(), re.MULTILINE)
    verbs = {name.replace("_", "-") for name in found}
    taken = {*verbs, *tasks.STAGES, "help", "list", "clean", "-n", "..."}
    named = {page: set(re.findall(r"(?:`|^ +|env )doit ([a-z.-]+)", page.read_text(), re.MULTILINE))
             for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"))}  # fmt: skip
    assert {page.name: verbs - taken for page, verbs in named.items() if verbs - taken} == {}
    assert len(set.union(*named.values()) & cloud_tasks.PUBLISH_VERBS) >= 8
