"""qemu's command line, what is unpacked for it, and its answers: from data alone, no qemu is started."""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.lab.kernels import unpack_kernel
from xenkiln.lab.machine import Machine, make_command
from xenkiln.lab.monitor import list_forwards, say

GOLDEN = """\
qemu-system-x86_64
-machine pc,usb=off
-accel {accelerator}
-cpu {processor}
-smp 2
-nodefaults
-no-user-config
-no-reboot
-display none
-name xenkiln-lab
-m 2560
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-chardev file,id=console,path=console.log
-serial chardev:console
-qmp unix:monitor,server=on,wait=off
-kernel xen
-append dom0_mem=384M,max:384M dom0_max_vcpus=2 com1=115200,8n1 console=com1 noreboot=1 bootscrub=0 xpti=off spec-ctrl=no
-initrd vmlinuz root=/dev/vda rootfstype=ext4 ro init=/sbin/lab-init console=hvc0 quiet,initrd.img
-drive file=root.qcow2,format=qcow2,if=virtio,cache=unsafe
-drive file=seed.tar,format=raw,if=virtio,read-only=on
-device virtio-scsi-pci,id=scsi0
-netdev user,id=net0,restrict=on,dhcpstart=10.0.2.200,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22
-device virtio-net-pci,netdev=net0,romfile=
"""  # noqa: E501  # a line an option
FOLDER = Path("/a,folder/with a name")
ACCELERATORS = ["tcg", "kvm"]


@pytest.mark.parametrize(
    ("accelerator", "named", "processor"), [("tcg", "tcg,thread=multi", "qemu64,+svm,+npt"), ("kvm", "kvm", "host")]
)
def test_the_command_is_the_golden_one(accelerator: str, named: str, processor: str) -> None:
    wanted: list[str] = []
    for line in GOLDEN.format(accelerator=named, processor=processor).splitlines():
        wanted += line.split(" ", 1)
    assert make_command(Machine(FOLDER, 2560, accelerator)) == wanted


def list_values(option: str, accelerator: str) -> list[str]:
    words = make_command(Machine(FOLDER, 1024, accelerator))
    return [value for word, value in pairwise(words) if word == option]


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_it_listens_on_loopback_and_on_a_socket_in_its_folder_alone(accelerator: str) -> None:
    networks = list_values("-netdev", accelerator)
    forwards = [pair for network in networks for pair in network.split(",") if "fwd=" in pair]
    assert forwards
    assert all(re.fullmatch(r"hostfwd=tcp:127\.0\.0\.1:0-10\.0\.2\.15:22", pair) for pair in forwards)
    assert all(network.startswith("user,") and "restrict=on" in network.split(",") for network in networks)
    assert all(re.fullmatch(r"unix:[a-z.]+,server=on,wait=off", value) for value in list_values("-qmp", accelerator))
    listening = {"-monitor", "-vnc", "-spice", "-gdb", "-s", "-nic", "-net", "-mon"}
    assert not listening & set(make_command(Machine(FOLDER, 1024, accelerator)))
    assert all(value.startswith("file,") for value in list_values("-chardev", accelerator))


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_no_path_of_the_folder_is_on_the_command_line(accelerator: str) -> None:
    words = make_command(Machine(FOLDER, 1024, accelerator))
    assert not [word for word in words if str(FOLDER) in word or "/a" in word]
    assert [value.split(",")[0] for value in list_values("-drive", accelerator)] == ["file=root.qcow2", "file=seed.tar"]


def make_bzimage(payload: bytes, sectors: int = 27, offset: int = 0x2D4) -> bytes:
    """Linux, Documentation/arch/x86/boot.rst: setup sectors, header, and behind them the packed kernel."""
    head = bytearray((sectors + 1) * 512)
    head[0x1F1] = sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, offset, len(payload))
    return bytes(head) + bytes(offset) + payload + b"\0" * 300


def make_old_lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


ELF = b"\x7fELF" + bytes(range(256)) * 20


@pytest.mark.parametrize("sectors", [1, 27, 63])
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, make_old_lzma])
def test_a_packed_kernel_is_unpacked(pack: Callable[[bytes], bytes], sectors: int) -> None:
    assert unpack_kernel(make_bzimage(pack(ELF), sectors)) == ELF


@pytest.mark.parametrize("pack", [lzma.compress, make_old_lzma])
def test_the_size_behind_a_packed_kernel_does_no_harm(pack: Callable[[bytes], bytes]) -> None:
    assert unpack_kernel(make_bzimage(pack(ELF) + struct.pack("<I", len(ELF)))) == ELF


@pytest.mark.parametrize("payload", [b"\x28\xb5\x2f\xfd zstd", b"\x89LZO\0", b"\x02\x21\x4c\x18 lz4", b"BZh9", ELF])
def test_a_kernel_packed_in_another_way_stays_as_it_is(payload: bytes) -> None:
    image = make_bzimage(payload)
    assert unpack_kernel(image) == image


@pytest.mark.parametrize("image", [ELF, gzip.compress(ELF), b"", b"HdrS", b"\0" * 4096])
def test_what_is_no_bzimage_stays_as_it_is(image: bytes) -> None:
    assert unpack_kernel(image) == image


@given(st.binary(max_size=400), st.integers(1, 80), st.integers(0, 2000))
def test_whatever_is_inside_a_bzimage_comes_out(content: bytes, sectors: int, offset: int) -> None:
    assert unpack_kernel(make_bzimage(gzip.compress(content), sectors, offset)) == content


USERNET = """\
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  13       127.0.0.1 39845       10.0.2.15    22     0     0
  TCP[ESTABLISHED]   15       127.0.0.1 39845       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  17       127.0.0.1 40021       10.0.2.50    22     0     0
  UDP[236 sec]       19       10.0.2.15    68        10.0.2.2    67     0     0
  TCP[HOST_FORWARD]  21               *  2222       10.0.2.51    22     0     0
"""


def test_forwards_are_read_from_what_the_monitor_says() -> None:
    assert list_forwards(USERNET) == {("10.0.2.15", 22): 39845, ("10.0.2.50", 22): 40021}
    assert list_forwards(USERNET.replace("\n", "\r\n")) == list_forwards(USERNET)
    assert list_forwards(USERNET.splitlines()[0]) == {}


def test_a_line_for_the_human_monitor_is_an_order() -> None:
    assert say("info usernet") == ("human-monitor-command", {"command-line": "info usernet"})
