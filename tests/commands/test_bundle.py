"""`bundle` and `unbundle` as the user meets them: what is made, what is refused, what is left behind."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from bundle.by_hand import Owner, check_signature, make_owner, open_bundle

from xenkiln.commands import bundle, unbundle
from xenkiln.errors import BuildError, HostError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.loader import LoadedCloud, load_image, load_recipe
from xenkiln.publishing.subject import Subject, make_subject
from xenkiln.system.files import allocated_bytes
from xenkiln.system.layout import PROJECT

FILES = {"vmlinuz": "kernel", "initrd.img": "ramdisk", "root.img": "root"}
VARIABLES = ("EC2_PRIVATE_KEY", "EC2_CERT", "EUCALYPTUS_CERT", "EC2_ACCOUNT_NUMBER", "EC2_USER_ID")


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Owner]:
    folder = tmp_path_factory.mktemp("owners")
    return {name: make_owner(folder, name) for name in ("cloud", "user", "stranger")}


@dataclass(frozen=True)
class Desk:
    """An image that was built, the cloud it is for, and where its bundles go."""

    subject: Subject
    cloud: LoadedCloud
    bundles: Path

    def bundle(self) -> None:
        for role in FILES.values():
            bundle.run(self.subject, self.cloud, role)  # type: ignore[arg-type]  # it is one of the three

    def check(self) -> None:
        bundle.check(self.subject, self.cloud)

    def find_manifest(self, role: str) -> Path:
        (found,) = (self.bundles / role).glob("*.manifest.xml")
        return found

    def read_all(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.bundles.rglob("*") if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path, owners: dict[str, Owner], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A tiny that was built, and credentials in an eucarc."""
    images = tmp_path / "build" / "images" / "tiny"
    images.mkdir(parents=True)
    for number, name in enumerate(FILES):
        with (images / name).open("wb") as stream:
            stream.write(os.urandom(5000 + number))
            stream.truncate(1 << 22)
    write_sums(images)
    home = tmp_path / "home"
    (home / ".euca").mkdir(parents=True)
    (home / ".euca" / "eucarc").write_text(
        f"export EC2_PRIVATE_KEY={owners['user'].key_file}\nexport EC2_CERT={owners['user'].certificate_file}\n"
        f"export EUCALYPTUS_CERT={owners['cloud'].certificate_file}\nexport EC2_USER_ID=000100729354\n"
    )
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path / "build"))
    (tmp_path / "mine.yaml").write_text("summary: Mine\ndialect: eucalyptus-1.4\nbucket: images\n")
    subject = make_subject(load_image(PROJECT / "recipes/images/tiny.yaml"))
    cloud = load_recipe(tmp_path / "mine.yaml", CloudRecipe)
    return Desk(subject, cloud, tmp_path / "build" / "bundles" / "tiny")


def write_sums(images: Path) -> None:
    lines = [f"{hashlib.sha256((images / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(FILES)]
    (images / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def made(desk: Desk) -> Desk:
    desk.bundle()
    return desk


def test_all_three_open_by_hand_with_either_key(made: Desk, owners: dict[str, Owner], tmp_path: Path) -> None:
    kinds = []
    for file, role in FILES.items():
        path = made.find_manifest(role)
        assert check_signature(path.read_bytes(), owners["user"], tmp_path)
        for who, owner in (("ec2", "cloud"), ("user", "user")):
            image = open_bundle(path.parent, path.name.removesuffix(".manifest.xml"), owners[owner], who)
            assert image == (tmp_path / "build/images/tiny" / file).read_bytes()
        kinds.append((path.name.split("-")[0], re.findall("<type>(.*)</type>", path.read_text())[0]))
    assert kinds == [("vmlinuz", "kernel"), ("initrd", "ramdisk"), ("root", "machine")]


def test_the_root_filesystem_keeps_the_name_that_it_has_inside(made: Desk) -> None:
    assert "<virtual>ami</virtual><device>xvda1</device>" in made.find_manifest("root").read_text()
    assert "<virtual>" not in made.find_manifest("kernel").read_text()


def test_a_second_run_makes_nothing_and_a_change_makes_that_anew(
    made: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made.read_all()
    made.bundle()
    assert capsys.readouterr().out.count("up to date") == len(FILES)
    assert made.read_all() == before
    part = next((made.bundles / "root").glob("*.part.00"))
    part.unlink()
    made.bundle()
    assert part.exists()
    images = tmp_path / "build/images/tiny"
    (images / "vmlinuz").write_bytes(b"new")
    write_sums(images)
    old = made.find_manifest("kernel").name
    made.bundle()
    assert "<size>3</size>" in made.find_manifest("kernel").read_text()
    assert made.find_manifest("kernel").name != old


def test_another_kernel_makes_another_machine_of_the_same_root(made: Desk, tmp_path: Path) -> None:
    names = {role: made.find_manifest(role).name for role in FILES.values()}
    images = tmp_path / "build/images/tiny"
    (images / "vmlinuz").write_bytes(b"new")
    write_sums(images)
    made.bundle()
    changed = [role for role, name in names.items() if made.find_manifest(role).name != name]
    assert changed == ["kernel", "root"]


def test_for_another_account_they_are_made_anew(made: Desk, tmp_path: Path) -> None:
    with (tmp_path / "home/.euca/eucarc").open("a") as stream:
        stream.write("export EC2_ACCOUNT_NUMBER=0001-2345-6789\n")
    again = replace(made)
    again.bundle()
    assert "<user>000123456789</user>" in again.find_manifest("root").read_text()


def test_an_error_leaves_what_was_there(made: Desk, tmp_path: Path) -> None:
    before = made.read_all()
    (tmp_path / "build/images/tiny/root.img").unlink()
    images = tmp_path / "build/images/tiny"
    (images / "SHA256SUMS").write_text((images / "SHA256SUMS").read_text().replace("a", "b"))
    with pytest.raises(FileNotFoundError):
        bundle.run(made.subject, made.cloud, "root")
    assert made.read_all() == before
    assert not list(made.bundles.glob("*.partial"))


def test_reproducible_parts_are_the_same_each_time(desk: Desk) -> None:
    publish = desk.subject.publish.model_copy(update={"reproducible": True})
    pinned = replace(desk, subject=replace(desk.subject, publish=publish))
    seen = []
    for _ in range(2):
        pinned.bundle()
        seen.append({name: data for name, data in pinned.read_all().items() if ".part." in name})
        shutil.rmtree(pinned.bundles)
    assert seen[0] == seen[1]
    desk.bundle()
    assert {name: data for name, data in desk.read_all().items() if ".part." in name} != seen[0]


@pytest.mark.parametrize("name", VARIABLES[:4])
def test_what_is_missing_or_wrong_is_named(
    name: str, desk: Desk, tmp_path: Path, owners: dict[str, Owner]
) -> None:
    eucarc = tmp_path / "home/.euca/eucarc"
    text = eucarc.read_text()
    variable = "EC2_USER_ID" if name == "EC2_ACCOUNT_NUMBER" else name
    eucarc.write_text("\n".join(line for line in text.splitlines() if variable not in line))
    with pytest.raises(HostError, match=rf"{name}.* is not set, neither in the environment nor in .*/\.euca/eucarc"):
        desk.check()
    if name == "EC2_ACCOUNT_NUMBER":
        eucarc.write_text(f"{eucarc.read_text()}\nexport {name}=12345\n")
        with pytest.raises(HostError, match="an account has 12 digits, this is '12345'"):
            desk.check()
        return
    eucarc.write_text(f"{eucarc.read_text()}\nexport {name}={tmp_path}/nowhere.pem\n")
    with pytest.raises(HostError, match=rf"{name}=.*nowhere\.pem: cannot be read: No such file"):
        desk.check()
    (tmp_path / "wrong.pem").write_text("no pem")
    eucarc.write_text(f"{eucarc.read_text()}\nexport {name}={tmp_path}/wrong.pem\n")
    with pytest.raises(HostError, match=r"is no (private key|certificate) in PEM"):
        desk.check()


def test_a_key_and_a_certificate_of_two_people_are_refused(
    desk: Desk, owners: dict[str, Owner], tmp_path: Path
) -> None:
    with (tmp_path / "home/.euca/eucarc").open("a") as stream:
        stream.write(f"export EC2_CERT={owners['stranger'].certificate_file}\n")
    with pytest.raises(HostError, match="not that of the key"):
        desk.bundle()


@pytest.mark.parametrize(("who", "told"), [("user", "signed by you"), ("cloud", "nobody has checked who signed it")])
def test_unbundle_gives_the_image_back(
    who: str, told: str, made: Desk, owners: dict[str, Owner], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "build/images/tiny/root.img"
    manifest, target = str(made.find_manifest("root")), tmp_path / "root.img"
    unbundle.run(manifest=manifest, to=str(target), key=str(owners[who].key_file))
    assert target.read_bytes() == image.read_bytes()
    assert allocated_bytes(target) <= allocated_bytes(image)
    assert told in capsys.readouterr().out
    with pytest.raises(HostError, match="is there already"):
        unbundle.run(manifest=manifest, to=str(target), key="")


def test_unbundle_takes_the_users_own_key_and_refuses_others(
    made: Desk, owners: dict[str, Owner], tmp_path: Path
) -> None:
    manifest, target = made.find_manifest("root"), tmp_path / "again"
    unbundle.run(manifest=str(manifest), to=str(target), key="")
    target.unlink()
    with pytest.raises(BuildError, match=r"does not open the bundle|no key of AES"):
        unbundle.run(manifest=str(manifest), to=str(target), key=str(owners["stranger"].key_file))
    manifest.write_text(manifest.read_text().replace("<user>0001", "<user>0002"))
    with pytest.raises(BuildError, match="somebody has changed the manifest"):
        unbundle.run(manifest=str(manifest), to=str(target), key="")
    with pytest.raises(HostError, match="it is not said which bundle"):
        unbundle.run(manifest="", to=str(target), key="")
    assert not target.exists()
