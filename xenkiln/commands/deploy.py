"""deploy:NAME: a built image to its Xen host, its configuration into /etc/xen, and the domain started there."""

from __future__ import annotations

from xenkiln import pipeline
from xenkiln.errors import BuildError, XenkilnError
from xenkiln.model.loader import LoadedImage
from xenkiln.system.progress import show_progress


def run(loaded: LoadedImage) -> None:
    """Always ask the host again: its state is its own, whatever an earlier record says."""
    stage = pipeline.load_stage("deploy")
    inputs = stage.slice_recipe(loaded)
    if inputs is None:
        raise BuildError("the recipe names no Xen host", place=loaded.file, next_step="add a deploy section to it")
    problems = stage.find_problems(inputs, pipeline.paths_for(loaded))
    if problems:
        raise XenkilnError("\n".join(map(str, problems)))
    with show_progress(f"deploy:{loaded.name}") as tell:
        record = pipeline.run_stage("deploy", loaded, tell)
    print(f"deploy:{loaded.name}  {record.seconds:.1f} s  {record.result}")
