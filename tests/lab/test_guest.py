"""What of an image goes where in dom0, and the archive that takes it there."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.lab.archive import Member, format_settings, write_archive
from xenkiln.lab.guest import Guest, GuestFile, list_bodies, list_bridges, make_job

TINY = """\
type = "pv"
kernel = "/var/lib/xen/images/tiny/vmlinuz"
ramdisk = "/var/lib/xen/images/tiny/initrd.img"
name = "tiny"
memory = 96
vcpus = 1
disk = [ 'format=raw, vdev=xvda1, access=rw, target=/var/lib/xen/images/tiny/root.img' ]
root = '/dev/xvda1 ro'
vif = [ 'bridge=xenbr0' ]
"""
PLACE = "/var/lib/xen/images/tiny"
FOLDER = "run/lab/guests/tiny"


def make_guest(folder: Path, config: str = TINY, *names: str, **more: object) -> Guest:
    """tiny with the disks of those names."""
    for name in ("vmlinuz", "initrd.img", *(names or ["root.img"])):
        (folder / name).write_bytes(name.encode())
    (folder / "tiny.xl.cfg").write_text(config)
    boot_files = () if "bootloader" in config else ("vmlinuz", "initrd.img")
    disks, files = ([GuestFile(folder / name, f"{PLACE}/{name}") for name in group]
                    for group in (names or ["root.img"], boot_files))  # fmt: skip
    return Guest("tiny", folder / "tiny.xl.cfg", tuple(files), tuple(disks), **more)  # type: ignore[arg-type]


def read_job(guest: Guest, *targets: int) -> dict[str, bytes]:
    members = make_job(guest, "10.0.2.50", targets)
    assert len({member.path for member in members}) == len(members)
    return {each.path: each.content.read_bytes() if isinstance(each.content, Path) else each.content
            for each in members}  # fmt: skip


def test_the_job_of_tiny_is_all_that_dom0_needs(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, public_key="ssh-ed25519 AAAA boot\n")
    assert read_job(guest, 2) == {
        f"{FOLDER}/settings": b"DOMAIN='tiny'\nCONFIG='/run/lab/guests/tiny/xl.cfg'\nADDRESS='10.0.2.50'\n",
        f"{FOLDER}/disks": b"2 /var/lib/xen/images/tiny/root.img\n",
        f"{FOLDER}/bridges": b"",
        f"{FOLDER}/authorized-keys": b"ssh-ed25519 AAAA boot\n",
        f"{FOLDER}/xl.cfg": TINY.encode(),
        f"{FOLDER}/places": f"0 {PLACE}/vmlinuz\n1 {PLACE}/initrd.img\n".encode(),
        f"{FOLDER}/files/0": b"vmlinuz",
        f"{FOLDER}/files/1": b"initrd.img",
    }
    modes = {member.path: member.mode for member in make_job(guest, "10.0.2.50", [2])}
    assert modes.pop(f"{FOLDER}/authorized-keys") == 0o600
    assert set(modes.values()) == {0o644}


def test_the_configuration_says_name_memory_and_type(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, TINY.replace('name = "tiny"', 'name = "web-1"'))
    assert (guest.name, guest.domain_name, guest.memory_mib, guest.is_pvh) == ("tiny", "web-1", 96, False)
    assert read_job(guest, 2)[f"{FOLDER}/settings"].startswith(b"DOMAIN='web-1'\nCONFIG='/run/lab/guests/tiny/xl")
    assert make_guest(tmp_path, TINY.replace('type = "pv"', 'type = "pvh"')).is_pvh


def test_disks_get_their_targets_in_order(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, TINY, "root.img", "swap.img", "data.img")
    assert read_job(guest, 38, 39, 40)[f"{FOLDER}/disks"].decode() == (
        f"38 {PLACE}/root.img\n39 {PLACE}/swap.img\n40 {PLACE}/data.img\n"
    )


@pytest.mark.parametrize("targets", [[], [2], [2, 3, 4]])
def test_a_disk_without_a_target_is_a_mistake(tmp_path: Path, targets: list[int]) -> None:
    guest = make_guest(tmp_path, TINY, "root.img", "swap.img")
    with pytest.raises(ValueError, match=r"zip\(\)"):
        make_job(guest, "10.0.2.50", targets)


@pytest.mark.parametrize(
    ("vif", "bridges"),
    [
        ("[ 'bridge=xenbr0' ]", []),
        ("[ '' ]", []),
        ("[ ]", []),
        ("[ 'mac=00:16:3e:00:00:01,bridge=xenbr1', 'bridge=br.7', 'bridge=xenbr0', 'bridge=xenbr1' ]",
         ["xenbr1", "br.7"]),
        ("[ 'bridge=xenbr1,script=vif-bridge', 'mac=00:16:3e:00:00:02' ]", ["xenbr1"]),
    ],
)  # fmt: skip
def test_other_bridges_are_named_once_each(tmp_path: Path, vif: str, bridges: list[str]) -> None:
    guest = make_guest(tmp_path, TINY.replace("[ 'bridge=xenbr0' ]", vif))
    assert list_bridges(guest) == bridges
    assert read_job(guest, 2)[f"{FOLDER}/bridges"].decode() == "".join(f"{name}\n" for name in bridges)


def test_a_guest_without_interfaces_needs_no_bridge(tmp_path: Path) -> None:
    assert list_bridges(make_guest(tmp_path, TINY.replace("vif = [ 'bridge=xenbr0' ]\n", ""))) == []


def test_where_pygrub_finds_them_no_boot_files_go_along(tmp_path: Path) -> None:
    lines = [line for line in TINY.splitlines() if not line.startswith(("kernel", "ramdisk", "root"))]
    config = "\n".join(['bootloader = "pygrub"', *lines, ""])
    assert set(read_job(make_guest(tmp_path, config), 2)) == {
        f"{FOLDER}/{name}" for name in ("settings", "disks", "bridges", "authorized-keys", "xl.cfg", "places")
    }  # fmt: skip


def test_a_folder_of_meta_data_answers_with_what_is_in_it() -> None:
    values = {"meta-data/ami-id": "emi-1", "meta-data/placement/availability-zone": "lab",
              "meta-data/public-keys/index": "0=lab_key", "meta-data/public-keys/0/openssh-key": "ssh-rsa AAAA\n",
              "user-data": "#!/bin/sh\n"}  # fmt: skip
    bodies = list_bodies(values)
    assert {path: bodies[path] for path in values} == values
    assert {path: body for path, body in bodies.items() if path not in values} == {
        "meta-data/index": "ami-id\nplacement/\npublic-keys/",
        "meta-data/placement/index": "availability-zone",
        "meta-data/public-keys/0/index": "openssh-key",
    }


def test_meta_data_goes_into_the_job_below_latest(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, meta_data={"meta-data/ami-id": "emi-1", "user-data": "größer"})
    job = read_job(guest, 2)
    top = f"{FOLDER}/meta-data/latest"
    assert {path: body for path, body in job.items() if path.startswith(top)} == {
        f"{top}/meta-data/ami-id": b"emi-1", f"{top}/meta-data/index": b"ami-id", f"{top}/user-data": "größer".encode()
    }  # fmt: skip
    assert not [path for path in read_job(make_guest(tmp_path), 2) if "meta-data" in path]


@pytest.mark.parametrize("value", ["it's", "a\nb", "back\\slash", "'; reboot; '", "\n"])
def test_values_that_a_shell_would_not_read_back_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^DOMAIN is not plain: "):
        format_settings({"ADDRESS": "10.0.2.50", "DOMAIN": value})


def test_a_hostile_name_of_a_domain_never_reaches_dom0(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, TINY.replace('name = "tiny"', """name = "x'; reboot; '" """))
    with pytest.raises(ValueError, match="DOMAIN is not plain"):
        make_job(guest, "10.0.2.50", [2])


@given(st.text(st.characters(codec="ascii", exclude_characters="\0'\\\n"), max_size=60))
def test_what_is_taken_is_what_the_shell_reads(value: str) -> None:
    text = format_settings({"VALUE": value}).decode()
    assert text == f"VALUE='{value}'\n"


def test_the_shell_reads_settings_back(tmp_path: Path) -> None:
    value = '$(touch here) `id` "x" $HOME !! ; # *'
    (tmp_path / "settings").write_bytes(format_settings({"ONE": value, "TWO": ""}))
    script = '. ./settings; printf "%s\\n" "$ONE" "$TWO"'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{value}\n\n"
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    subprocess.run([str(shutil.which("tar")), "-x", "-f", archive, "-C", folder], check=True)


def test_the_archive_is_private_whole_sectors_and_unpacks_to_the_same(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 4001)
    long = "/".join(["folder-with-a-long-name"] * 8 + ["file"])
    members = [Member("script", b"#!/bin/sh\n", 0o755), Member("key", b"secret", 0o600), Member("empty", b""),
               Member("a/b c/größer", "ü".encode()), Member(long, b"deep"), Member("large", large)]  # fmt: skip
    archive = tmp_path / "job.tar"
    write_archive(archive, members)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert archive.stat().st_size % 512 == 0
    unpack(archive, tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")): path
             for path in (tmp_path / "out").rglob("*") if path.is_file()}  # fmt: skip
    assert {name: path.read_bytes() for name, path in found.items()} == {
        member.path: large.read_bytes() if member.path == "large" else member.content for member in members
    }
    assert [stat.S_IMODE(found[name].stat().st_mode) for name in ("script", "key", "empty")] == [0o755, 0o600, 0o644]


def test_the_archive_of_a_job_unpacks_to_the_job(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, public_key="ssh-ed25519 AAAA\n", meta_data={"meta-data/ami-id": "emi-1"})
    write_archive(tmp_path / "job.tar", make_job(guest, "10.0.2.50", [2]))
    unpack(tmp_path / "job.tar", tmp_path / "out")
    out = tmp_path / "out"
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == read_job(
        guest, 2
    )
