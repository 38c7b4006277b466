"""boot:NAME: the image as a guest of a real Xen, in qemu, until it has done what its recipe expects."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from xenkiln import pipeline
from xenkiln.domains.placement import place_boot_files
from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.families.dom0 import MODULES
from xenkiln.lab.attempts import work_on_host
from xenkiln.lab.boot import GuestBoot, Outcome
from xenkiln.lab.dom0 import make_key
from xenkiln.lab.guest import Guest, GuestFile
from xenkiln.lab.junit import write_junit
from xenkiln.lab.meta_data import make_meta_data
from xenkiln.lab.network import ADDRESSES
from xenkiln.lab.places import TARGETS_OF_A_GUEST
from xenkiln.lab.readiness import find_lab_problems, make_lab, require_dom0
from xenkiln.lab.session import Lab, Session
from xenkiln.model.boot_record import BootRecord, dump_boot_record
from xenkiln.model.loader import LoadedImage
from xenkiln.model.records import StepTime
from xenkiln.stages import domain
from xenkiln.system.commands import Runner, make_printable
from xenkiln.system.files import remove_path, write_finished
from xenkiln.system.layout import Paths, build_folder
from xenkiln.system.locks import hold_lock, is_held
from xenkiln.system.progress import Tell, show_progress

RECORD, CONSOLE, JUNIT = "boot.json", "console.log", "boot.junit.xml"


def run(loaded: LoadedImage) -> None:
    """Boot, write boot.json, console.log and boot.junit.xml; BuildError with the likely cause where it fails."""
    paths = pipeline.paths_for(loaded)
    folder = build_folder() / "lab" / f"boot-{loaded.name}"
    lock = folder.with_name(f"{folder.name}.lock")
    # An old verdict must not stay, whatever becomes of this run; one that is just being made is not ours.
    if not (lock.exists() and is_held(lock)):
        for name in (RECORD, CONSOLE, JUNIT):
            (paths.images / name).unlink(missing_ok=True)
    check(loaded)
    require_dom0(describe_lab())
    with hold_lock(lock, f"the boot of {loaded.name}"), show_progress(f"boot:{loaded.name}") as tell:
        try:
            record = boot_image(loaded, paths, folder, tell)
        finally:
            remove_path(folder)
    write_finished(paths.images / RECORD, dump_boot_record(record))
    write_junit(record, paths.images / JUNIT)
    report(record, paths)


def check(loaded: LoadedImage) -> None:
    """Refuse what cannot be booted here: asked before anything is built, and again before it is booted."""
    if problems := find_problems(loaded):
        raise XenkilnError("\n".join(map(str, problems)))


def find_problems(loaded: LoadedImage) -> list[XenkilnError]:
    """What would keep it from being booted here, before anything is started."""
    recipe = loaded.recipe
    problems = find_lab_problems(describe_lab(), recipe.domain.memory_mib)
    first = next(iter(recipe.configure.network.interfaces), None)
    if recipe.boot.needs_ssh and (first is None or first.method != "dhcp"):
        problems.append(HostError("the lab's network gives addresses by DHCP, and the recipe's first interface asks"
                                  " for none", place=f"{loaded.file}: boot",
                                  next_step="expect nothing over ssh there, or make it method: dhcp"))  # fmt: skip
    if recipe.boot.needs_ssh and not recipe.domain.vifs:
        problems.append(HostError("the guest has no network interface, and is expected to answer over ssh",
                                  place=f"{loaded.file}: domain.vifs",
                                  next_step="give it one: domain.vifs: [{}], or expect nothing over ssh"))  # fmt: skip
    if len(recipe.disks.extra) + 2 >= TARGETS_OF_A_GUEST:
        problems.append(HostError(f"the lab gives a guest {TARGETS_OF_A_GUEST - 1} disks at most", place=loaded.file))
    return problems


def boot_image(loaded: LoadedImage, paths: Paths, folder: Path, tell: Tell) -> BootRecord:
    """Boot on a host that runs, or on one started for it; again where that was another run's, and went with it."""
    started = time.time()
    runner = Runner(paths.log("boot"))
    paths.log("boot").parent.mkdir(parents=True, exist_ok=True)
    paths.log("boot").write_text("")

    def boot(session: Session) -> BootRecord:
        remove_path(folder)
        folder.mkdir(parents=True, mode=0o700)
        outcome = boot_on(session, loaded, paths, folder, runner, tell)
        if outcome.failure and session.is_lost():
            raise HostError("the Xen host has ended under it", place=loaded.name, next_step="run this again")
        phases = (session.state.phases if session.is_own else {}) | outcome.phases
        return make_record(loaded, paths, started, session.state.accelerator, phases, outcome)

    return work_on_host(describe_lab(), loaded.recipe.domain.memory_mib, boot, tell=tell, note=runner.note)


def boot_on(session: Session, loaded: LoadedImage, paths: Paths, folder: Path, runner: Runner, tell: Tell) -> Outcome:
    """Boot on this host, with a key of its own."""
    key = folder / "guest-key"
    make_key(key, "boot")
    guest = describe_guest(loaded, paths, key.with_suffix(".pub").read_text(), ADDRESSES[session.place])
    boot = GuestBoot(guest, loaded.recipe.boot, folder, paths.images / CONSOLE, tell)
    return boot.run(session, runner.note)


def describe_lab() -> Lab:
    """The lab of this build folder."""
    return make_lab(build_folder(), MODULES)


def describe_guest(loaded: LoadedImage, paths: Paths, public_key: str, address: str) -> Guest:
    """The image as it is taken to a Xen host."""
    recipe, inputs = loaded.recipe, domain.slice_recipe(loaded)
    boot_files = place_boot_files(loaded.name, recipe.domain)
    sources = {0: "vmlinuz", 1: "initrd.img"}
    meta_data = make_meta_data(loaded.name, address, public_key, recipe.boot.user_data)
    return Guest(
        loaded.name,
        domain.config_path(paths, "xl"),
        # A kernel that the Xen host has of its own is not here: the image's takes its place.
        tuple(GuestFile(paths.images / (file.source or sources[number]), file.path)
              for number, file in enumerate(boot_files)),
        tuple(GuestFile(paths.images / str(disk.source), disk.path) for disk in inputs.disks),
        public_key if recipe.boot.needs_ssh else "",
        meta_data if recipe.boot.metadata or recipe.configure.fetch_metadata else None,
    )  # fmt: skip


def make_record(
    loaded: LoadedImage, paths: Paths, started: float, accelerator: str, phases: dict[str, float], outcome: Outcome
) -> BootRecord:
    """What has become of it, for boot.json."""
    parts = [(paths.images / "SHA256SUMS").read_bytes(), domain.config_path(paths, "xl").read_bytes(),
             loaded.recipe.boot.model_dump_json().encode()]  # fmt: skip
    key = hashlib.sha256(json.dumps([hashlib.sha256(part).hexdigest() for part in parts]).encode()).hexdigest()
    facts = outcome.facts
    return BootRecord(
        name=loaded.name,
        key=key,
        started=round(started, 3),
        result="failed" if outcome.failure else "passed",
        accelerator=accelerator,
        steps=tuple(StepTime(name, seconds) for name, seconds in phases.items()),
        expectations=tuple(outcome.met),
        hypervisor=facts.get("hypervisor", ""),
        guest_type=facts.get("guest_type", ""),
        kernel=facts.get("kernel", ""),
        memory_mib=int(facts["memory_kib"]) >> 10 if facts.get("memory_kib", "").isdecimal() else None,
        addresses=tuple(facts.get("addresses", "").split()),
        failure=outcome.failure,
    )


def report(record: BootRecord, paths: Paths) -> None:
    """One line of success, or BuildError."""
    if failure := record.failure:
        lines = [f"{record.name} does not come up under Xen: {failure.phase}: {failure.fact}"]
        lines += [f"  not met: {name}: {lack}" for name, lack in failure.lacks.items()]
        lines += [f"  | {line}" for line in failure.last_lines]
        lines = [make_printable(line) for line in lines]
        lines += [f"  likely cause: {failure.cause}", f"  full output: {paths.images / CONSOLE}"]
        raise BuildError("\n".join(lines), next_step=failure.next_step)
    last = max((met.seconds for met in record.expectations), default=0.0)
    what = ", ".join(filter(None, [f"{record.guest_type or 'a'} guest of Xen",
                                   record.kernel and f"kernel {record.kernel}",
                                   f"sees {record.memory_mib} MiB" if record.memory_mib else "",
                                   *record.addresses[:1]]))  # fmt: skip
    print(f"boot:{record.name}  {record.seconds:.1f} s  passed: {what}; all {len(record.expectations)} expectations"
          f" met {last:.1f} s after its start")  # fmt: skip
