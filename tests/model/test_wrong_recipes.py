"""Every wrong recipe in wrong/ is refused with exactly the text beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.errors import RecipeError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.fields import Section
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import load_folder, load_image, load_recipe
from xenkiln.model.prebuilt import PrebuiltRecipe

HERE = Path(__file__).parent
WRONG = sorted((HERE / "wrong").glob("*.yaml"))
KINDS: dict[str, type[Section]] = {"clouds": CloudRecipe, "prebuilt": PrebuiltRecipe}
WRONG_OF_OTHER_KINDS = sorted(path for kind in KINDS for path in (HERE / "wrong" / kind).glob("*.yaml"))

GOOD = """\
summary: A good one
family: debian
release: bookworm
disks: {root: {size_mib: 64}}
packages: {}
configure: {hostname: guest}
ramdisk: {maker: mkinitramfs}
"""


@pytest.mark.usefixtures("fixed_modules")
@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_message_is_the_expected_one(path: Path, regenerate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(RecipeError) as caught:
        load_image(path)
    text, golden = f"{caught.value}\n", path.with_suffix(".txt")
    if regenerate:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WRONG_OF_OTHER_KINDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_message_of_another_kind_is_the_expected_one(
    path: Path, regenerate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, KINDS[path.parent.name])
    text, golden = f"{caught.value}\n", path.with_suffix(".txt")
    if regenerate:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert "hunter2" not in text


def test_no_expected_text_is_left_over() -> None:
    texts = [path.with_suffix(".yaml") for path in (HERE / "wrong").rglob("*.txt")]
    assert sorted(path for path in texts if "beside" not in path.parts) == sorted([*WRONG, *WRONG_OF_OTHER_KINDS])


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_what_may_be_a_secret_is_not_repeated(path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_image(path)
    assert "hunter2" not in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.usefixtures("fixed_modules")
def test_a_broken_recipe_blocks_only_itself(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(GOOD.replace("64", "6"))
    (tmp_path / "Bad Name.yaml").write_text(GOOD)
    (tmp_path / "good.lock.yaml").write_text("packages: []")
    (tmp_path / ".#good.yaml").symlink_to("nowhere")
    (tmp_path / "notes.txt").write_text("not a recipe")
    loaded, broken = load_folder(tmp_path, ImageRecipe)
    assert list(loaded) == ["good"]
    assert list(broken) == ["Bad Name", "bad"]
    assert str(broken["bad"]) == f"{tmp_path}/bad.yaml:4: disks.root.size_mib: 6 is too small: 8 at least"


@pytest.mark.usefixtures("fixed_modules")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"summary: x\nfamily: \xff\n", ":2: is not UTF-8 text"),
        (b"x: " + b"y" * (4 << 20), ": is larger than 4 MiB: not a recipe"),
        (
            b"\xef\xbb\xbf" + GOOD.replace("64", "6").encode(),
            ":4: disks.root.size_mib: 6 is too small: 8 at least",
        ),
        (
            GOOD.replace("64", "6").replace("\n", "\r\n").encode(),
            ":4: disks.root.size_mib: 6 is too small: 8 at least",
        ),
    ],
    ids=["not UTF-8", "too large", "byte order mark", "CR LF"],
)
def test_unusual_bytes(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        load_image(path)
    assert str(caught.value) == f"{path}{message}"


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    for name, message in (("folder", "is no file"), ("none", "there is no such file")):
        with pytest.raises(RecipeError, match=message):
            load_image(tmp_path / f"{name}.yaml")


@pytest.mark.usefixtures("fixed_modules")
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "inside").write_text("text")
    (folder / "out").symlink_to("../secret")
    (folder / "in").symlink_to("inside")
    (folder / "loop").symlink_to("loop")
    entries = "".join(f"\n    - {{path: /{name}, source: {name}}}" for name in ("in", "out", "loop"))
    recipe = GOOD.replace("{hostname: guest}", f"\n  hostname: guest\n  files:{entries}")
    (folder / "x.yaml").write_text(recipe)
    with pytest.raises(RecipeError) as caught:
        load_image(folder / "x.yaml")
    leads_out = "out is a link that leads out of the recipe's folder: put a copy there"
    assert [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems] == [
        f"x.yaml:10: configure.files[1].source: {leads_out}",
        "x.yaml:11: configure.files[2].source: there is no file loop in the recipe's folder",
    ]


@pytest.mark.usefixtures("fixed_modules")
@pytest.mark.parametrize("device", ["xvda", "xvdp15", "sdp", "sda1", "sda15", "hda", "hdd63", "hda10", "hdb60"])
def test_devices_that_xen_has_numbers_for_are_taken(device: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace("size_mib: 64", f"size_mib: 64, device: {device}"), encoding="utf-8")
    assert load_image(path).recipe.disks.root.device == device


@pytest.mark.usefixtures("fixed_modules")
@pytest.mark.parametrize(("interfaces", "gateway"), [
    ("{name: eth0, method: static, address: 192.0.2.6/31, gateway: 192.0.2.7}", "192.0.2.7"),
    ("{name: eth0, method: static, address: 192.0.2.7/24}, {name: eth1}", "203.0.113.1"),
    ("{name: eth0}", "203.0.113.1"),
])  # fmt: skip
def test_networks_that_can_be_are_taken(interfaces: str, gateway: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    network = f"hostname: guest, network: {{interfaces: [{interfaces}], gateway: {gateway}}}"
    path.write_text(GOOD.replace("hostname: guest", network), encoding="utf-8")
    assert load_image(path).recipe.configure.network.gateway == gateway


@pytest.mark.usefixtures("fixed_modules")
@pytest.mark.parametrize(("shape", "size_mib"), [("vhd", 2088959), ("disk", 2097150)])
def test_the_largest_disk_of_a_shape_is_taken(shape: str, size_mib: int, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    text = GOOD.replace("size_mib: 64", f"size_mib: {size_mib}")
    path.write_text(f"{text}kernel: {{in_image: true}}\nshapes: [{shape}]\n", encoding="utf-8")
    assert load_image(path).recipe.disks.root.size_mib == size_mib


@pytest.mark.usefixtures("fixed_modules")
@pytest.mark.parametrize("root", ["/dev/xvda1 ro", "/dev/xvda1", "/dev/xvdb3 rw", "/dev/xvdb", "LABEL=root ro",
                                  "UUID=1 ro", "/dev/mapper/guest-root ro", "/dev/disk/by-label/sda9"])  # fmt: skip
def test_root_devices_that_can_be_are_taken(root: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    extra = "{name: data, size_mib: 64, device: xvdb, mount: /data}"
    text = GOOD.replace("{root: {size_mib: 64}}", f"{{root: {{size_mib: 64}}, extra: [{extra}]}}")
    path.write_text(f"{text}domain: {{root: {root}}}\n", encoding="utf-8")
    assert load_image(path).recipe.domain.root == root
