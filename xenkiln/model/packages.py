"""Exact packages: what a build installs, what a lock pins, what packages.json lists."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Package:
    """One package file.

    location: its path below the mirror (pool/main/...) or the repository; origin: the repository's
    name, or the mirror path that `location` is relative to. size in bytes, installed_kib in KiB.
    """

    name: str
    version: str
    arch: str
    sha256: str
    size: int
    installed_kib: int
    location: str
    origin: str

    @property
    def full_name(self) -> str:
        """Name, version and architecture as one word."""
        return f"{self.name} {self.version} {self.arch}"


@dataclass(frozen=True)
class PackagePlan:
    """Every package of an image, sorted, and the date that its timestamps are clamped to (seconds, UTC).

    request: the digest of what the recipe asked for, "" where it is not known.
    """

    epoch: int
    packages: tuple[Package, ...]
    request: str = ""

    @property
    def identity(self) -> str:
        """SHA-256 over the packages and the date: the same plan, the same image."""
        lines = [str(self.epoch), *(f"{package.full_name} {package.sha256}" for package in self.packages)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def installed_mib(self) -> int:
        """What the packages say they take when installed, in MiB, rounded up."""
        return -(-sum(package.installed_kib for package in self.packages) // 1024)
