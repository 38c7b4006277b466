"""The last words of guests that did not come up, as the real programs print them, each with its likely cause."""

from __future__ import annotations

from xenkiln.lab import diagnosis
from xenkiln.lab.diagnosis import Cause

KERNEL = """\
[    0.000000] Linux version 6.1.0-38-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0)
[    0.000000] Command line: root=/dev/xvda1 ro console=hvc0
[    0.000000] Hypervisor detected: Xen PV
[    3.083230] Booting kernel on Xen
[    5.502830] Trying to unpack rootfs image as initramfs...
[    5.603892] Freeing initrd memory: 2128K
"""
NO_DRIVERS = """\
[    8.662946] xenbus_probe_frontend: Device with no driver: device/vbd/51713
[    8.663190] xenbus_probe_frontend: Device with no driver: device/vif/0
"""
RUN_INIT = """\
[    8.923800] Freeing unused kernel image (initmem) memory: 2612K
[    9.456548] Run /init as init process
"""
BLKFRONT = """\
[   11.452074] blkfront: xvda1: flush diskcache: enabled; persistent grants: enabled; indirect descriptors: enabled
[   12.176942] xen_netfront: Initialising Xen virtual ethernet driver
"""
MOUNTED = "[   14.770645] EXT4-fs (xvda1): mounted filesystem with ordered data mode. Quota mode: none.\n"
BLIND = KERNEL + NO_DRIVERS + RUN_INIT
"""A ramdisk at its start: drivers come as modules, so there are none yet."""
SEEING, UP = BLIND + BLKFRONT, BLIND + BLKFRONT + MOUNTED
TINY = (
    UP
    + """\
[   15.802824] Not activating Mandatory Access Control as /sbin/tomoyo-init does not exist.
[   19.655603] EXT4-fs (xvda1): re-mounted. Quota mode: none.
tiny: network up: eth0 10.0.2.50/28
[   25.808738] random: crng init done
tiny: ssh host key: SHA256:pzHsIZet0VgRH6XeS1n2CJjrtZbRKwbYocIqmouAbaI
tiny: ready: tiny, 26.66 s after the kernel started

xenkiln tiny, tiny on /dev/hvc0

tiny login: meta-data: fetched 18 values and 1 ssh keys of instance i-CF68DC16 from http://169.254.169.254
"""
)
DEBIAN = (
    UP
    + """\
[   20.117442] systemd[1]: systemd 252.38-1~deb12u1 running in system mode (+PAM +AUDIT +SELINUX +APPARMOR)
[   20.120101] systemd[1]: Detected virtualization xen.

Welcome to Debian GNU/Linux 12 (bookworm)!

[   21.310018] systemd[1]: Hostname set to <debian12>.
[  OK  ] Created slice system-getty.slice - Slice /system/getty.
[  OK  ] Mounted dev-hugepages.mount - Huge Pages File System.
[  OK  ] Reached target local-fs.target - Local File Systems.
[  OK  ] Started ssh.service - OpenBSD Secure Shell server.

Debian GNU/Linux 12 debian12 hvc0

debian12 login: """
)


def panic(words: str) -> str:
    return f"""\
[   20.001122] Kernel panic - not syncing: {words}
[   20.001305] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-38-amd64 #1  Debian 6.1.147-1
[   20.001488] Call Trace:
[   20.001502]  <TASK>
[   20.001522]  dump_stack_lvl+0x44/0x5c
[   20.001555]  panic+0x118/0x2ed
[   20.001603]  </TASK>
[   20.001699] Kernel Offset: disabled
"""


DEAD_INIT = panic("Attempted to kill init! exitcode=0x00000100")


def ramdisk(*said: str, disks: str = "xvda1 ", line: str = "root=/dev/xvda1 ro console=hvc0") -> str:
    """The last words of our own ramdisk; what the kernel makes of its end."""
    lines = [f"ramdisk: {words}" for words in (*said, f"block devices: {disks}", f"command line: {line}")]
    return "\n".join([*lines, DEAD_INIT])


def initramfs_tools(device: str) -> str:
    return f"""\
Loading, please wait...
Starting systemd-udevd version 252.38-1~deb12u1
Begin: Loading essential drivers ... done.
Begin: Running /scripts/init-premount ... done.
Begin: Mounting root file system ... Begin: Running /scripts/local-top ... done.
Begin: Running /scripts/local-premount ... done.
Begin: Waiting for root file system ... Begin: Running /scripts/local-block ... done.
Begin: Running /scripts/local-block ... done.
done.
Gave up waiting for root file system device.  Common problems:
 - Boot args (cat /proc/cmdline)
   - Check rootdelay= (did the system wait long enough?)
 - Missing modules (cat /proc/modules; ls /dev)
ALERT!  {device} does not exist.  Dropping to a shell!


BusyBox v1.35.0 (Debian 1:1.35.0-4+b3) built-in shell (ash)
Enter 'help' for a list of built-in commands.

(initramfs) """


def dracut(device: str) -> str:
    return f"""\
[  OK  ] Reached target basic.target - Basic System.
[  140.301122] dracut-initqueue[301]: Warning: dracut-initqueue: timeout, still waiting for following initqueue hooks:
[  140.302877] dracut-initqueue[301]: Warning: dracut-initqueue: starting timeout scripts
[  141.110230] dracut-initqueue[301]: Warning: Could not boot.
[  141.402256] dracut-initqueue[301]: Warning: {device} does not exist
         Starting Dracut Emergency Shell...
Warning: {device} does not exist

Generating "/run/initramfs/rdsosreport.txt"

Entering emergency mode. Exit the shell to continue.
Type "journalctl" to view system logs.

:/# """


def no_root_in_kernel(name: str) -> str:
    return f"""\
[    9.101877] /dev/root: Can't open blockdev
[    9.101920] VFS: Cannot open root device "{name}" or unknown-block(0,0): error -6
[    9.101988] Please append a correct "root=" boot option; here are the available partitions:
""" + panic("VFS: Unable to mount root fs on unknown-block(0,0)")


EMERGENCY = """\
You are in emergency mode. After logging in, type "journalctl -xb" to view
system logs, "systemctl reboot" to reboot, "systemctl default" or "exit"
to boot into default mode.
Give root password for maintenance
(or press Control-D to continue): """
LOCKED = """\
You are in emergency mode. After logging in, type "journalctl -xb" to view
system logs, "systemctl reboot" to reboot, "systemctl default" or "exit"
to boot into default mode.

Cannot open access to console, the root account is locked.
See sulogin(8) man page for more details.

Press Enter to continue.
"""

CASES: dict[str, tuple[Cause, str]] = {
    "our ramdisk without blkfront": (
        diagnosis.NO_BLKFRONT, BLIND + ramdisk("root=/dev/xvda1 did not appear within 10 s", disks="")),
    "our ramdisk whose blkfront is of another kernel": (
        diagnosis.NO_BLKFRONT,
        BLIND + "insmod: can't insert '/lib/modules/xen-blkfront.ko': invalid module format\n"
        + ramdisk("cannot load /lib/modules/xen-blkfront.ko", "root=UUID=0f3c did not appear within 10 s", disks="")),
    "initramfs-tools without blkfront": (diagnosis.NO_BLKFRONT, BLIND + initramfs_tools("/dev/xvda1")),
    "dracut without blkfront": (diagnosis.NO_BLKFRONT, BLIND + dracut("/dev/xvda1")),
    "no ramdisk and blkfront a module": (diagnosis.NO_BLKFRONT, KERNEL + NO_DRIVERS + no_root_in_kernel("xvda1")),
    "our ramdisk with another root": (
        diagnosis.NO_ROOT, SEEING + ramdisk("root=/dev/xvdb1 did not appear within 10 s")),
    "our ramdisk without root": (
        diagnosis.NO_ROOT, SEEING + ramdisk("no root= on the command line", line="console=hvc0")),
    "initramfs-tools with another root": (diagnosis.NO_ROOT, SEEING + initramfs_tools("/dev/xvdz1")),
    "initramfs-tools with another UUID": (
        diagnosis.NO_ROOT, SEEING + initramfs_tools("UUID=2f6b0a3e-07d5-4f39-9d4f-6b2f6d7c7a10")),
    "initramfs-tools without root": (
        diagnosis.NO_ROOT,
        SEEING + "No root device specified. Boot arguments must include a root= parameter.\n\n(initramfs) "),
    "dracut with another root": (diagnosis.NO_ROOT, SEEING + dracut("/dev/xvdz1")),
    "dracut without root": (
        diagnosis.NO_ROOT,
        SEEING + "dracut: FATAL: No or empty root= argument\ndracut: Refusing to continue\n" + DEAD_INIT),
    "a kernel with drivers of its own and another root": (
        diagnosis.NO_ROOT, KERNEL + BLKFRONT + no_root_in_kernel("xvdz1")),
    "our ramdisk and no init": (diagnosis.NO_INIT, UP + ramdisk("/dev/xvda1 has no /sbin/init")),
    "our ramdisk and no init of another name": (
        diagnosis.NO_INIT, UP + ramdisk("/dev/xvda1 has no /lib/systemd/systemd")),
    "our ramdisk and an empty filesystem": (diagnosis.NO_INIT, UP + ramdisk("/dev/xvda1 has no folder /dev")),
    "initramfs-tools and no init": (
        diagnosis.NO_INIT,
        UP + "run-init: can't execute '/sbin/init': No such file or directory\n"
        "Target filesystem doesn't have requested /sbin/init.\n"
        "No init found. Try passing init= bootarg.\n\n(initramfs) "),
    "dracut and no init": (
        diagnosis.NO_INIT,
        UP + "Cannot find init!\nPlease check to make sure you passed a valid root filesystem! Dropping to a shell.\n"),
    "the kernel and no init": (
        diagnosis.NO_INIT,
        UP + panic("No working init found.  Try passing init= option to kernel. See Linux"
                   " Documentation/admin-guide/init.rst for guidance.")),
    "CentOS 5's kernel and no init": (
        diagnosis.NO_INIT, UP + "Kernel panic - not syncing: No init found.  Try passing init= option to kernel.\n"),
    "an init that is not there": (diagnosis.NO_INIT, UP + panic("Requested init /sbin/nope failed (error -2).")),
    "a ramdisk of another architecture": (
        diagnosis.WRONG_ARCHITECTURE,
        KERNEL + RUN_INIT + "[    9.470011] Failed to execute /init (error -8)\n"
        "[    9.470210] Run /sbin/init as init process\n" + panic("No working init found.  Try passing init= option")),
    "an init of another architecture": (
        diagnosis.WRONG_ARCHITECTURE,
        UP + "[   15.1] Starting init: /sbin/init exists but couldn't execute it (error -8)\n"
        + panic("No working init found.  Try passing init= option to kernel.")),
    "an asked for init of another architecture": (
        diagnosis.WRONG_ARCHITECTURE, UP + panic("Requested init /sbin/nope failed (error -8).")),
    "switch_root to another architecture": (
        diagnosis.WRONG_ARCHITECTURE, UP + "switch_root: can't execute '/sbin/init': Exec format error\n" + DEAD_INIT),
    "a kernel of 32 bits": (
        diagnosis.WRONG_ARCHITECTURE,
        ("xc: error: panic: xc_dom_boot.c:43: xc_dom_compat_check: guest type xen-3.0-x86_32p not supported by xen"
        " kernel, sorry: Invalid kernel\nlibxl: error: libxl_dom.c:586:libxl__build_dom: xc_dom_parse_image failed\n")),
    "our ramdisk without the root's driver": (
        diagnosis.BAD_ROOT,
        SEEING + "mount: mounting /dev/xvda1 on /root failed: No such device\n"
        + ramdisk("cannot mount /dev/xvda1 as the root filesystem")),
    "initramfs-tools and a damaged root": (
        diagnosis.BAD_ROOT,
        SEEING + "mount: mounting /dev/xvda1 on /root failed: Invalid argument\n"
        "Failed to mount /dev/xvda1 as root file system.\n\n(initramfs) "),
    "a kernel without the root's driver": (
        diagnosis.BAD_ROOT,
        KERNEL + BLKFRONT + "[    9.1] List of all partitions:\n[    9.2] ca01           98304 xvda1 \n"
        "[    9.3]  driver: vbd\n[    9.4] No filesystem could mount root, tried: \n"
        + panic("VFS: Unable to mount root fs on unknown-block(202,1)")),
    "systemd in a ramdisk and a damaged root": (
        diagnosis.BAD_ROOT,
        SEEING + "[FAILED] Failed to mount sysroot.mount - /sysroot.\n"
        "See 'systemctl status sysroot.mount' for details.\n"
        "[DEPEND] Dependency failed for initrd-root-fs.target - Initrd Root File System.\n" + EMERGENCY),
    "our own init and fstab": (
        diagnosis.BAD_FSTAB,
        TINY + "mount: mounting /dev/xvdz1 on /srv failed: No such file or directory\n"
        "tiny: not every filesystem of /etc/fstab could be mounted\n"),
    "systemd 252 and fstab": (
        diagnosis.BAD_FSTAB,
        DEBIAN + "[ TIME ] Timed out waiting for device dev-xvdz1.device - /dev/xvdz1.\n"
        "[DEPEND] Dependency failed for srv.mount - /srv.\n"
        "[DEPEND] Dependency failed for local-fs.target - Local File Systems.\n" + EMERGENCY),
    "an older systemd and fstab": (
        diagnosis.BAD_FSTAB,
        UP + "[ TIME ] Timed out waiting for device /dev/xvdz1.\n[DEPEND] Dependency failed for /srv.\n"
        "[DEPEND] Dependency failed for Local File Systems.\n" + LOCKED),
    "a dependency alone": (diagnosis.BAD_FSTAB, UP + "[DEPEND] Dependency failed for /srv.\n" + EMERGENCY),
    "systemd and a damaged disk of fstab": (
        diagnosis.BAD_FSTAB,
        UP + "[FAILED] Failed to mount srv.mount - /srv.\nSee 'systemctl status srv.mount' for details.\n" + EMERGENCY),
    "systemd 241 that still waits for fstab": (
        diagnosis.BAD_FSTAB, UP + "[***   ] A start job is running for dev-xvdz1.device (31s / 1min 30s)\r"),
    "systemd that still waits for fstab's path": (
        diagnosis.BAD_FSTAB, UP + "[ ***  ] A start job is running for /dev/xvdz1 (31s / 1min 30s)\r"),
    "systemd 252 that still waits for fstab": (
        diagnosis.BAD_FSTAB, UP + "[***   ] Job dev-xvdz1.device/start running (31s / 1min 30s)\r"),
    "CentOS 5 and fstab": (
        diagnosis.BAD_FSTAB,
        UP + "Checking filesystems\nfsck.ext3: No such file or directory while trying to open /dev/xvdz1\n"
        "/dev/xvdz1: \n[FAILED]\n\n*** An error occurred during the file system check.\n"
        "*** Dropping you to a shell; the system will reboot\n*** when you leave the shell.\n"
        "Give root password for maintenance\n(or type Control-D to continue): "),
    "a killer of processes": (
        diagnosis.NO_MEMORY,
        TINY + "[   31.2] Out of memory: Killed process 312 (apt-get) total-vm:91220kB, anon-rss:51012kB\n"),
    "nothing left to kill": (
        diagnosis.NO_MEMORY,
        BLIND + "[   10.1] Out of memory and no killable processes...\n" + panic("System is deadlocked on memory")),
    "a page that is not to be had": (
        diagnosis.NO_MEMORY, BLIND + "[   10.1] insmod: page allocation failure: order:5, mode:0x40dc0\n" + DEAD_INIT),
    "a ramdisk that is larger than the memory": (
        diagnosis.NO_MEMORY,
        KERNEL + "[    5.7] Initramfs unpacking failed: write error\n" + NO_DRIVERS + no_root_in_kernel("xvda1")),
    "pygrub and libxl": (
        diagnosis.NO_LOADER,
        ("libxl: error: libxl_bootloader.c:649:bootloader_finished: bootloader failed - consult logfile"
        " /var/log/xen/bootloader.3.log\nlibxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: bootloader"
        " [2013] exited with error status 1\nlibxl: error: libxl_create.c:1265:domcreate_rebuild_done: Domain 3:cannot"
        " (re-)build domain: -3\n")),
    "pygrub itself": (diagnosis.NO_LOADER, "RuntimeError: Unable to find partition containing kernel\n"),
    "an older toolstack": (diagnosis.NO_LOADER, "Error: Boot loader didn't return any data!\n"),
    "a kernel without Xen": (
        diagnosis.NO_KERNEL_LOADER,
        ("xc: error: panic: xc_dom_core.c:691: xc_dom_find_loader: no loader found: Invalid kernel\n"
        "libxl: error: libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed\n"
        "libxl: error: libxl_create.c:1265:domcreate_rebuild_done: Domain 4:cannot (re-)build domain: -3\n")),
    "an oops": (
        diagnosis.PANIC,
        TINY + "[   30.1] BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
        + panic("Fatal exception in interrupt")),
    "an init that crashes": (diagnosis.PANIC, UP + panic("Attempted to kill init! exitcode=0x0000000b")),
    "systemd and a service": (
        diagnosis.EMERGENCY,
        UP + "[FAILED] Failed to start systemd-modules-load.service - Load Kernel Modules.\n" + EMERGENCY),
    "systemd and a locked root": (diagnosis.EMERGENCY, UP + LOCKED),
    "upstart and maintenance": (diagnosis.EMERGENCY, UP + "Press Enter for maintenance\n(or type Control-D): "),
    "xl: no memory": (diagnosis.NO_HOST_MEMORY, "xc_dom_boot_mem_init: can't allocate low memory for domain\n"),
    "kernel: no ramdisk": (diagnosis.BAD_RAMDISK, BLIND + "Initramfs unpacking failed: invalid magic at start\n"),
}
