"""shell:NAME: a shell inside a built image, on an overlay that is thrown away."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from xenkiln import pipeline
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage
from xenkiln.system import execution
from xenkiln.system.commands import Runner, run_interactive
from xenkiln.system.files import resolve_in_root
from xenkiln.system.guest_root import GUEST_ENVIRONMENT, enter_root
from xenkiln.system.locks import hold_lock
from xenkiln.system.steps import Mount

SHELLS = ("/bin/bash", "/bin/sh")


def run(loaded: LoadedImage) -> None:
    """Mount, enter, and throw away; the image itself is mounted read-only."""
    paths = pipeline.paths_for(loaded)
    image = paths.images / "root.img"
    if not image.is_file():
        raise BuildError(f"{loaded.name} has not been built", next_step=f"doit build:{loaded.name}")
    scratch = paths.work / f"shell-{os.getpid()}"
    lock = scratch.with_name(f"{scratch.name}.lock")
    with ExitStack() as stack:
        # Held before the folder is there: sweep takes one without a lock for a killed shell's.
        stack.enter_context(hold_lock(lock, "the folder of this shell"))
        stack.callback(_remove_scratch, scratch, lock)
        root = _mount(image, scratch, stack)
        shell = next((name for name in SHELLS if resolve_in_root(root, name).exists()), None)
        if shell is None:
            raise BuildError("the image has no shell", place=str(image))
        print(f"inside {loaded.name}; what you change is thrown away; `exit` leaves")
        seen = GUEST_ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb"), "PS1": f"{loaded.name}:\\w\\$ "}
        run_interactive(enter_root(root, [shell], seen))


def _remove_scratch(scratch: Path, lock: Path) -> None:
    """Only empty folders are left; anything else would mean that something is still mounted."""
    for folder in (scratch / "image", scratch / "top", scratch / "root", scratch):
        if folder.exists():
            folder.rmdir()
    lock.unlink()


def _mount(image: Path, scratch: Path, stack: ExitStack) -> Path:
    runner, root, top = Runner(), scratch / "root", scratch / "top"
    stack.enter_context(execution.open_mount(Mount("image", scratch / "image", image), runner))
    stack.enter_context(execution.open_mount(Mount("tmpfs", top), runner))
    for name in ("upper", "work"):
        (top / name).mkdir()
    stack.enter_context(execution.open_mount(Mount("overlay", root, top, lower=(scratch / "image",)), runner))
    stack.enter_context(execution.open_mount(Mount("guest", root), runner))
    return root
