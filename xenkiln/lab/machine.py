"""The machine that the lab runs in: qemu's command line, from data alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenkiln.lab.network import HOST_ADDRESS

DOM0_MIB = 384
XEN_MIB = 128
"""What Xen itself takes of a machine of some GiB, and what it keeps free."""
HOST_MIB = DOM0_MIB + XEN_MIB
"""What a machine has beside the memory of its guests."""
CPUS = 2

QEMU = "qemu-system-x86_64"
MONITOR, CONSOLE, OUTPUT = "monitor", "console.log", "qemu.log"
XEN, KERNEL, RAMDISK, ROOT, SEED = "xen", "vmlinuz", "initrd.img", "root.qcow2", "seed.tar"
"""Files in the machine's folder, by which qemu is told of them: a comma in a path would end it there."""

PROCESSORS = {"tcg": "qemu64,+svm,+npt", "kvm": "host"}
"""dom0's kernel crashes on -cpu max under emulation. svm is what a pvh guest needs of a processor."""
XEN_OPTIONS = f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus={CPUS} com1=115200,8n1 console=com1 noreboot=1"
FAST_XEN_OPTIONS = "bootscrub=0 xpti=off spec-ctrl=no"
"""Every switch of page tables costs an emulated processor its whole cache of them, and nobody else's secret
is in this machine."""
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""What a guest that broke out of its machine could not do; qemu runs as whoever runs doit."""
DOM0_OPTIONS = "root=/dev/vda rootfstype=ext4 ro init=/sbin/lab-init console=hvc0 quiet"


@dataclass(frozen=True)
class Machine:
    """Where its files are, how much memory it has, and what runs it: tcg or kvm."""

    folder: Path
    memory_mib: int
    accelerator: str = "tcg"


def make_processor(accelerator: str) -> list[str]:
    """The beginning of qemu's arguments: processors, and nothing else but what is asked for."""
    threads = ",thread=multi" if accelerator == "tcg" else ""
    return [
        QEMU, "-machine", "pc,usb=off", "-accel", f"{accelerator}{threads}", "-cpu", PROCESSORS[accelerator],
        "-smp", str(CPUS), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
    ]  # fmt: skip


def make_command(machine: Machine) -> list[str]:
    """qemu's arguments; it is to be started in the machine's folder.

    Nothing listens but what is forwarded to this host's loopback, and nothing inside reaches this host or
    its network (restrict).
    """
    network = f"user,id=net0,restrict=on,dhcpstart=10.0.2.200,hostfwd=tcp:127.0.0.1:0-{HOST_ADDRESS.split('/')[0]}:22"
    return [
        *make_processor(machine.accelerator), "-name", "xenkiln-lab", "-m", str(machine.memory_mib),
        "-sandbox", SANDBOX,
        "-chardev", f"file,id=console,path={CONSOLE}", "-serial", "chardev:console",
        "-qmp", f"unix:{MONITOR},server=on,wait=off",
        "-kernel", XEN, "-append", f"{XEN_OPTIONS} {FAST_XEN_OPTIONS}",
        "-initrd", f"{KERNEL} {DOM0_OPTIONS},{RAMDISK}",
        "-drive", f"file={ROOT},format=qcow2,if=virtio,cache=unsafe",
        "-drive", f"file={SEED},format=raw,if=virtio,read-only=on",
        "-device", "virtio-scsi-pci,id=scsi0",
        "-netdev", network, "-device", "virtio-net-pci,netdev=net0,romfile=",
    ]  # fmt: skip
