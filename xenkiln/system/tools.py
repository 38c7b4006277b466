"""Which Debian package brings which tool: for messages that say what to install."""

from __future__ import annotations

import os
import shutil

from xenkiln.errors import HostError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PACKAGES = {
    "/usr/lib/apt/apt-helper": "apt",
    "/usr/share/mmdebstrap/hooks/file-mirror-automount/setup00.sh": "mmdebstrap",
    "apt-get": "apt",
    "apt-cache": "apt",
    "apt-ftparchive": "apt-utils",
    "createrepo_c": "createrepo-c",
    "cpio": "cpio",
    "dd": "coreutils",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dnf": "dnf",
    "dpkg-deb": "dpkg",
    "dumpe2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "faketime": "faketime",
    "fallocate": "util-linux",
    "gpg": "gnupg",
    "losetup": "mount",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mkswap": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rpm": "rpm",
    "rpmbuild": "rpm",
    "rpmdb": "rpm",
    "rpmkeys": "rpm",
    "setarch": "util-linux",
    "ssh-keygen": "openssh-client",
    "sfdisk": "fdisk",
    "truncate": "coreutils",
    "umount": "mount",
    "unshare": "util-linux",
    "zstd": "zstd",
}


def search_path() -> str:
    """The user's PATH with the system folders behind it: an ordinary user's lacks the sbin ones."""
    own = os.environ.get("PATH", "")
    return f"{own}:{SEARCH_PATH}" if own else SEARCH_PATH


def find_tool(name: str) -> str | None:
    """The path of an executable, or None; a name with slashes is that file itself."""
    return shutil.which(name, path=search_path())


def find_missing(names: set[str]) -> list[str]:
    """Those tools of `names` that this host lacks, sorted."""
    return sorted(name for name in names if find_tool(name) is None)


def missing_tools_error(missing: list[str]) -> HostError:
    """One error that names every missing tool and the packages that bring them."""
    packages = sorted({PACKAGES.get(name, name) for name in missing})
    return HostError(
        f"this host has no {', '.join(missing)}",
        next_step=f"apt-get install {' '.join(packages)} (scripts/env does it by itself)",
    )
