"""`bundle` and `unbundle` as the user meets them: what is made, what is refused, what is left behind."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest
from bundle.by_hand import Owner, check_signature, make_owner, open_bundle

from xenkiln.commands import bundle, unbundle
from xenkiln.errors import BuildError, HostError
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.system.files import allocated_bytes
from xenkiln.system.layout import PROJECT

FILES = {"vmlinuz": "vmlinuz-tiny", "initrd.img": "initrd-tiny", "root.img": "root-tiny"}
VARIABLES = ("EC2_PRIVATE_KEY", "EC2_CERT", "EUCALYPTUS_CERT", "EC2_ACCOUNT_NUMBER", "EC2_USER_ID")


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Owner]:
    folder = tmp_path_factory.mktemp("owners")
    return {name: make_owner(folder, name) for name in ("cloud", "user", "stranger")}


@pytest.fixture
def loaded(tmp_path: Path, owners: dict[str, Owner], monkeypatch: pytest.MonkeyPatch) -> LoadedImage:
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
    return load_image(PROJECT / "recipes/images/tiny.yaml")


def write_sums(images: Path) -> None:
    lines = [f"{hashlib.sha256((images / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(FILES)]
    (images / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def folder(loaded: LoadedImage, tmp_path: Path) -> Path:
    bundle.run(loaded)
    return tmp_path / "build" / "bundles" / "tiny"


def test_all_three_open_by_hand_with_either_key(folder: Path, owners: dict[str, Owner], tmp_path: Path) -> None:
    for file, name in FILES.items():
        manifest = (folder / f"{name}.manifest.xml").read_bytes()
        assert check_signature(manifest, owners["user"], tmp_path)
        for who, owner in (("ec2", "cloud"), ("user", "user")):
            image = open_bundle(folder, name, owners[owner], who)
            assert image == (tmp_path / "build/images/tiny" / file).read_bytes()
    kinds = {name: re.findall("<type>(.*)</type>", (folder / f"{name}.manifest.xml").read_text())[0]
             for name in FILES.values()}  # fmt: skip
    assert kinds == {"vmlinuz-tiny": "kernel", "initrd-tiny": "ramdisk", "root-tiny": "machine"}


def test_a_second_run_makes_nothing_and_a_change_makes_all_anew(
    folder: Path, loaded: LoadedImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    bundle.run(loaded)
    assert "up to date" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "root-tiny.part.00").unlink()
    bundle.run(loaded)
    assert (folder / "root-tiny.part.00").exists()
    images = tmp_path / "build/images/tiny"
    (images / "vmlinuz").write_bytes(b"new")
    write_sums(images)
    bundle.run(loaded)
    assert "<size>3</size>" in (folder / "vmlinuz-tiny.manifest.xml").read_text()


def test_for_another_account_they_are_made_anew(
    folder: Path, loaded: LoadedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EC2_ACCOUNT_NUMBER", "0001-2345-6789")
    bundle.run(loaded)
    assert "<user>000123456789</user>" in (folder / "root-tiny.manifest.xml").read_text()


def test_an_error_leaves_what_was_there(
    folder: Path, loaded: LoadedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    images = tmp_path / "build/images/tiny"
    (images / "vmlinuz").write_bytes(b"new")
    write_sums(images)
    (images / "root.img").unlink()
    with pytest.raises(FileNotFoundError):
        bundle.run(loaded)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny", "tiny.lock"]


@pytest.mark.parametrize("name", VARIABLES[:4])
def test_what_is_missing_or_wrong_is_named(
    name: str, loaded: LoadedImage, tmp_path: Path, owners: dict[str, Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    eucarc = tmp_path / "home/.euca/eucarc"
    text = eucarc.read_text()
    variable = "EC2_USER_ID" if name == "EC2_ACCOUNT_NUMBER" else name
    eucarc.write_text("\n".join(line for line in text.splitlines() if variable not in line))
    with pytest.raises(HostError, match=rf"{name}.* is not set, neither in the environment nor in .*/\.euca/eucarc"):
        bundle.check(loaded)
    if name == "EC2_ACCOUNT_NUMBER":
        monkeypatch.setenv(name, "12345")
        with pytest.raises(HostError, match="an account has 12 digits, this is '12345'"):
            bundle.check(loaded)
        return
    monkeypatch.setenv(name, str(tmp_path / "nowhere.pem"))
    with pytest.raises(HostError, match=rf"{name}=.*nowhere\.pem: cannot be read: No such file"):
        bundle.check(loaded)
    (tmp_path / "wrong.pem").write_text("no pem")
    monkeypatch.setenv(name, str(tmp_path / "wrong.pem"))
    with pytest.raises(HostError, match=r"is no (private key|certificate) in PEM"):
        bundle.check(loaded)


def test_a_key_and_a_certificate_of_two_people_are_refused(
    loaded: LoadedImage, owners: dict[str, Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EC2_CERT", str(owners["stranger"].certificate_file))
    with pytest.raises(HostError, match="not that of the key"):
        bundle.run(loaded)


@pytest.mark.parametrize(("who", "told"), [("user", "signed by you"), ("cloud", "nobody has checked who signed it")])
def test_unbundle_gives_the_image_back(
    who: str, told: str, folder: Path, owners: dict[str, Owner], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "build/images/tiny/root.img"
    manifest, target = str(folder / "root-tiny.manifest.xml"), tmp_path / "root.img"
    unbundle.run(manifest=manifest, to=str(target), key=str(owners[who].key_file))
    assert target.read_bytes() == image.read_bytes()
    assert allocated_bytes(target) <= allocated_bytes(image)
    assert told in capsys.readouterr().out
    with pytest.raises(HostError, match="is there already"):
        unbundle.run(manifest=manifest, to=str(target), key="")


def test_unbundle_takes_the_users_own_key_and_refuses_others(
    folder: Path, owners: dict[str, Owner], tmp_path: Path
) -> None:
    manifest, target = folder / "root-tiny.manifest.xml", tmp_path / "again"
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
