"""Whether KVM runs a guest here. A device node proves nothing: it can open, and the guest never gets on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from xenkiln.lab import machine
from xenkiln.lab.host import read_text
from xenkiln.system.services import ended_service, start_service

DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 8
PROBE_MIB = 256
RUNNING = "Brought up"
"""What Xen says when all processors run, its page tables and its interrupts with them."""


def choose_accelerator(boot_files: Path, scratch: Path) -> str:
    """kvm where a probe guest really ran, else tcg: software emulation, which works everywhere."""
    may = os.access(DEVICE, os.R_OK | os.W_OK)
    return "kvm" if may and runs_xen("kvm", boot_files, scratch) else "tcg"


def runs_xen(accelerator: str, boot_files: Path, scratch: Path) -> bool:
    """Whether the hypervisor gets as far as making its dom0; there it fails, for the file it is given is no kernel."""
    console, output = scratch / "probe.log", scratch / "probe.qemu.log"
    console.write_bytes(b"")
    argv = [*machine.make_processor(accelerator), "-m", str(PROBE_MIB), "-kernel", str(boot_files / machine.XEN),
            "-initrd", str(boot_files / machine.RAMDISK),
            "-append", "com1=115200,8n1 console=com1 noreboot=1", "-serial", f"file:{console.name}"]  # fmt: skip
    deadline = time.monotonic() + PROBE_SECONDS
    with ended_service(start_service(argv, scratch, output, stays=False)) as process:
        while process.poll() is None and time.monotonic() < deadline and RUNNING not in read_text(console):
            time.sleep(0.05)
    return RUNNING in read_text(console)
