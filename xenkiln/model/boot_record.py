"""boot.json: what became of an image under a real Xen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from xenkiln.model.records import SCHEMA_VERSION, StepTime


@dataclass(frozen=True)
class Met:
    """An expectation that was met, and how many seconds after the guest's start."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why the image is not to be trusted: at what it was, what happened, the likely cause and the way out.

    lacks: expectation -> what it lacked. last_lines: the end of the guest's console.
    """

    phase: str
    fact: str
    cause: str
    next_step: str
    lacks: dict[str, str]
    last_lines: tuple[str, ...]


@dataclass(frozen=True)
class BootRecord:
    """One boot; `result` is passed or failed, `key` the SHA-256 of what was booted: SHA256SUMS, domain, expectations.

    steps: phases with their seconds. accelerator: tcg or kvm. started: seconds since 1970. memory_mib is what the
    guest itself sees; what an image without ssh cannot tell is None or empty.
    """

    name: str
    key: str
    started: float
    result: str
    accelerator: str
    steps: tuple[StepTime, ...]
    expectations: tuple[Met, ...]
    hypervisor: str = ""
    guest_type: str = ""
    kernel: str = ""
    memory_mib: int | None = None
    addresses: tuple[str, ...] = ()
    failure: Failure | None = None
    kind: str = "boot"
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def seconds(self) -> float:
        """How long it took in all."""
        return sum(step.seconds for step in self.steps)


def dump_boot_record(record: BootRecord) -> str:
    """The record as JSON text."""
    return json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
