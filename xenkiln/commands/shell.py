"""shell:NAME: a shell inside a built image, on an overlay that is thrown away."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from xenkiln import pipeline
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage
from xenkiln.system import execution
from xenkiln.system.commands import Runner, run_interactive
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Mount

SHELLS = ("/bin/bash", "/bin/sh")


def run(loaded: LoadedImage) -> None:
    """Mount, enter, and throw away; the image itself is mounted read-only."""
    paths = pipeline.paths_for(loaded)
    image = paths.images / "root.img"
    if not image.is_file():
        raise BuildError(f"{loaded.name} has not been built", next_step=f"doit build:{loaded.name}")
    scratch = Path(tempfile.mkdtemp(prefix="shell-", dir=paths.work))
    with ExitStack() as stack:
        root = _mount(image, scratch, stack)
        shell = next((name for name in SHELLS if resolve_in_root(root, name).exists()), None)
        if shell is None:
            raise BuildError("the image has no shell", place=str(image))
        print(f"inside {loaded.name}; what you change is thrown away; `exit` leaves")
        run_interactive(execution.enter_root(root, [shell]), {"HOME": "/root", "PS1": f"{loaded.name}:\\w\\$ "})
    # Only empty folders are left; anything else would mean that something is still mounted.
    for name in ("image", "top", "root", "."):
        (scratch / name).rmdir()


def _mount(image: Path, scratch: Path, stack: ExitStack) -> Path:
    runner, root, top = Runner(), scratch / "root", scratch / "top"
    stack.enter_context(execution.open_mount(Mount("image", scratch / "image", image), runner))
    stack.enter_context(execution.open_mount(Mount("tmpfs", top), runner))
    for name in ("upper", "work"):
        (top / name).mkdir()
    stack.enter_context(execution.open_mount(Mount("overlay", root, top, lower=(scratch / "image",)), runner))
    stack.enter_context(execution.open_mount(Mount("guest", root), runner))
    return root
