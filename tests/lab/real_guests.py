"""Guests made from the built tiny image, whole or broken on purpose, for a real Xen host of the lab."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from xenkiln.lab.boot import GuestBoot, Outcome
from xenkiln.lab.dom0 import make_key
from xenkiln.lab.guest import Guest, GuestFile
from xenkiln.lab.meta_data import make_meta_data
from xenkiln.lab.places import Place, hold_place
from xenkiln.lab.session import Session
from xenkiln.model.boot import Boot
from xenkiln.system.files import copy_sparse

DIRECTORY = "/var/lib/xen/images"


@dataclass
class Image:
    """A copy of a built image's files, to be changed."""

    name: str
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "xl.cfg"

    @property
    def root(self) -> Path:
        return self.folder / "root.img"

    @property
    def ramdisk(self) -> Path:
        return self.folder / "initrd.img"

    def change_config(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def write_file(self, path: str, text: str) -> None:
        """Put a file into the image, in place of one that is there."""
        local = self.folder / "file"
        local.write_text(text)
        for order in (f"rm {path}", f"write {local} {path}"):
            subprocess.run(["debugfs", "-w", "-R", order, self.root], check=True, capture_output=True)

    def remove_module(self, name: str) -> None:
        """Repack the ramdisk without a module in its list."""
        tree = self.folder / "ramdisk"
        tree.mkdir()
        subprocess.run(f"gzip -dc {self.ramdisk} | (cd {tree} && cpio -idm --quiet)", shell=True, check=True)
        listed = tree / "modules"
        listed.write_text("".join(line for line in listed.read_text().splitlines(True) if name not in line))
        subprocess.run(f"cd {tree} && find . | cpio -o --quiet -H newc | gzip >{self.ramdisk}", shell=True, check=True)

    def describe(self, number: int, public_key: str, *, pygrub: bool = False) -> Guest:
        directory = f"{DIRECTORY}/{self.name}"
        boot_files = () if pygrub else (GuestFile(self.folder / "vmlinuz", f"{directory}/vmlinuz"),
                                        GuestFile(self.ramdisk, f"{directory}/initrd.img"))  # fmt: skip
        meta_data = make_meta_data(self.name, Place(number).address, public_key)
        return Guest(self.name, self.config, boot_files, (GuestFile(self.root, f"{directory}/root.img"),), public_key,
                     meta_data)  # fmt: skip


def copy_image(images: Path, name: str, folder: Path) -> Image:
    """The files of a built image that a guest is made of."""
    folder.mkdir()
    for file in ("vmlinuz", "initrd.img", "root.img"):
        copy_sparse(images / name / file, folder / file)
    (folder / "xl.cfg").write_text((images / name / f"{name}.xl.cfg").read_text())
    return Image(name, folder)


def boot_image(session: Session, image: Image, boot: Boot, *, pygrub: bool = False) -> Outcome:
    """Boot it on a host that runs; its console is in its folder then."""
    key = image.folder / "guest-key"
    make_key(key, "boot")
    with hold_place(session.folder, 0, 4096) as number, (image.folder / "log").open("w") as log:
        assert number is not None
        guest = image.describe(number, key.with_suffix(".pub").read_text(), pygrub=pygrub)
        run = GuestBoot(guest, boot, image.folder, image.folder / "console.log", lambda _: None)
        return run.run(replace(session, place=number), lambda line: print(line, file=log, flush=True))
