"""From what a guest that did not come up has said to the likely cause and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cause:
    """What is likely wrong, and what to do about it."""

    fact: str
    next_step: str


NO_BLKFRONT = Cause(
    "the ramdisk has no xen-blkfront, so the guest sees none of its disks",
    "add xen-blkfront to ramdisk.modules, and build again",
)
NO_ROOT = Cause(
    "root= names a device that the guest does not have",
    "compare domain.root and disks.root.device with the devices that the console lists",
)
NO_INIT = Cause(
    "there is no init on the root filesystem, or root= names another disk's",
    "install the distribution's init (systemd-sysv, upstart, busybox), and look inside: doit shell:NAME",
)
WRONG_ARCHITECTURE = Cause(
    "programs or kernel are of another architecture than the machine they are to run on",
    "compare the recipe's arch with that of its kernel and of the programs in it",
)
BAD_FSTAB = Cause(
    "/etc/fstab names a filesystem that cannot be mounted, and init waits or gave up over it",
    "correct configure.mounts and disks.extra, or give such a mount the option nofail",
)
BAD_ROOT = Cause(
    "the root filesystem is there and cannot be mounted",
    "add its driver to ramdisk.modules (ext4 reads ext2 and ext3 too), and check rootflags in domain.extra",
)
NO_MEMORY = Cause("the guest runs out of memory", "raise domain.memory_mib")
NO_LOADER = Cause(
    "pygrub finds no kernel in the image",
    "kernel.in_image: true puts one and a menu into it; or domain.boot: kernel",
)
NO_KERNEL_LOADER = Cause(
    "Xen cannot load this kernel as a paravirtualised guest",
    "take a kernel with CONFIG_XEN_PV (CONFIG_XEN_PVH for type: pvh) of the recipe's own architecture",
)
PANIC = Cause("the guest's kernel panicked", "read the lines above it in console.log")
EMERGENCY = Cause("init gave up and wants a person at the console", "read in console.log which unit failed, and why")

NO_HOST_MEMORY = Cause(
    "the Xen host has too little memory free for this guest",
    "end other guests of it, or lower domain.memory_mib",
)
BAD_RAMDISK = Cause(
    "the kernel cannot unpack its ramdisk",
    "build it again: doit clean ramdisk:NAME; a kernel needs support for the way its ramdisk is packed",
)
GIVEN_UP = r"emergency mode|Give root password for maintenance|Press Enter for maintenance"
"""systemd and the rescue shells before it: nothing more will come."""
PATTERNS = (
    (r"Initramfs unpacking failed: write error", NO_MEMORY),
    (r"Initramfs unpacking failed|invalid magic at start of compressed archive", BAD_RAMDISK),
    ((r"can't allocate low memory for domain|failed to free memory for the domain"
      r"|not enough (free )?memory for domain|xc_dom_boot_mem_init failed: Cannot allocate memory"), NO_HOST_MEMORY),
    (r"root=\S{1,200} did not appear[^\0]{0,4000}?block devices:[ \t]*\r?\n", NO_BLKFRONT),
    ((r"\A(?![^\0]*blkfront)[^\0]*?Device with no driver: device/vbd/[^\0]*"
      r"(VFS: Unable to mount root|Cannot open root|ALERT!|did not appear|Warning: /dev/\S{1,200} does not exist)"),
     NO_BLKFRONT),
    ((r"root=\S{1,200} did not appear|VFS: Cannot open root device|ALERT! +\S{1,200} +does not exist"
      r"|Gave up waiting for root|dracut\S{0,200} Warning: \S{1,200} does not exist|no root= on the command line"
      r"|No root device specified|No or empty root="), NO_ROOT),
    (r"[Ee]xec format error|error -8\)|failed \(error -8|guest type \S{1,200} not supported", WRONG_ARCHITECTURE),
    ((r"cannot mount \S{1,200} as the root|VFS: Unable to mount root fs|mount: mounting \S{1,200} on /root failed"
      r"|Failed to mount[^\n]{0,300}sysroot"), BAD_ROOT),
    ((r"No working init found|Requested init \S{1,200} failed|ramdisk: \S{1,200} has no (folder )?/|No init found"
      r"|Cannot find init|can't execute '\S{0,200}init'|Target filesystem doesn't have requested /\S{1,200}"), NO_INIT),
    ((r"Dependency failed for (/|[^\n]{0,200}Local File|[^\n]{0,200}[Mm]ount)|Timed out waiting for device"
      r"|Failed to mount|not every filesystem of /etc/fstab could be mounted|A start job is running for /?dev"
      r"|mount: mounting \S{1,200} on \S{1,200} failed|Job dev-\S{1,200}\.device/start running"
      r"|fsck\S{0,200}: No such file or directory while trying to open"
      r"|mount: special device \S{1,200} does not exist"), BAD_FSTAB),
    ((r"Out of memory|Kernel panic[^\n]{0,300}memory|page allocation failure|System is deadlocked on memory"),
     NO_MEMORY),
    ((r"[Bb]oot loader didn't return any data|bootloader[^\n]{0,200}failed|RuntimeError: Unable to"
      r"|[Uu]nable to find (partition|[^\n]{0,300}kernel)"), NO_LOADER),
    (r"no loader found|xc_dom_(find_loader|parse_image|probe)|not a Xen-ELF image|panic: xc_dom", NO_KERNEL_LOADER),
    (r"Kernel panic", PANIC),
    (GIVEN_UP, EMERGENCY),
)  # fmt: skip
"""In this order: what comes first is nearer to the cause."""

SILENCE = Cause(
    "the guest runs and says nothing on its Xen console",
    "give the kernel console=hvc0 (configure.console; xvc0 for the kernels of CentOS 5), and let init use it",
)
NO_LOGIN = Cause(
    "the guest is up, and nothing asks for a login on its Xen console",
    "configure.console must be hvc0 (xvc0 for CentOS 5), with a getty of the guest's init on it",
)
NO_NETWORK = Cause(
    "the guest has not been seen on the network",
    "look for xen-netfront (ramdisk.modules or configure.load_modules), and at configure.network: eth0 by dhcp",
)
NO_SSH = Cause(
    "the guest is on the network, and its ssh server does not let us in",
    "install an ssh server; it must let root in with a key (PermitRootLogin)",
)
COMMAND_FAILED = Cause(
    "the guest is up, and a command in it does not do what the recipe expects",
    "try it by hand in doit shell:NAME or doit lab, and correct it or boot.commands",
)
NO_META_DATA = Cause(
    "the guest is up, and has not fetched all of its meta-data",
    "configure.fetch_metadata brings the client; what it says is on the console, and what it asked in boot.log",
)
TOO_SLOW = Cause("it was still on its way when the time was over", "raise boot.time_limit_seconds")
REBOOTS = Cause(
    "something in the guest, or its kernel, restarts it each time",
    "read in console.log what comes before each start; domain.on_crash: destroy keeps a crash from starting it again",
)
FLOOD = Cause("a program of the guest writes to its console without end", "read in console.log which one it is")
ENDED = Cause(
    "the guest switched itself off, or crashed before it could say why",
    "read the end of console.log: an init or a script of the recipe may have ended it",
)
REFUSED = Cause("Xen, or the lab, could not create the guest", "read the lines above, and compare the domain section")

READ_CHARACTERS = 32 << 10
"""Of a console's beginning and of its end: what is between them is what a guest repeats."""
Ending = Literal["time", "panic", "reboots", "flood", "gone", "refused"]
BY_ENDING: dict[str, Cause] = {"reboots": REBOOTS, "flood": FLOOD, "gone": ENDED, "refused": REFUSED, "panic": PANIC}


def diagnose(console: str, *, missing: list[str], seen_on_network: bool, ending: Ending = "time") -> Cause:
    """The likely cause for a guest that did not do all it should; `missing` are kinds of expectations not met."""
    said = console if len(console) <= 2 * READ_CHARACTERS else console[:READ_CHARACTERS] + console[-READ_CHARACTERS:]
    for pattern, cause in PATTERNS:
        if re.search(pattern, said):
            return cause
    if ending in BY_ENDING:
        return BY_ENDING[ending]
    if not console.strip():
        return SILENCE
    if missing == ["login"]:
        return NO_LOGIN
    if "ssh" in missing:
        return NO_SSH if seen_on_network else NO_NETWORK
    return COMMAND_FAILED if "command" in missing else NO_META_DATA if "metadata" in missing else TOO_SLOW
