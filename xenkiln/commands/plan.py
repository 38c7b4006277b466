"""plan:NAME: everything that would run and every file that would be written; nothing is run, no root needed."""

from __future__ import annotations

from xenkiln import pipeline
from xenkiln.errors import XenkilnError
from xenkiln.model.loader import LoadedImage
from xenkiln.system.execution import show_step


def run(loaded: LoadedImage) -> None:
    """Print the plan of each stage, in order, and what stands in its way on this host."""
    paths = pipeline.paths_for(loaded)
    stale: set[str] = set()
    for name, inputs in pipeline.slices(loaded).items():
        stage = pipeline.load_stage(name)
        state = "up to date"
        if before := stale & set(stage.NEEDS):
            state = f"to run after {', '.join(sorted(before))}"
        elif not pipeline.is_current(name, loaded):
            state = f"to run: {pipeline.explain(name, loaded)}"
        if state != "up to date":
            stale.add(name)
        print(f"\n{name}:{loaded.name}  ({state})  {stage.SUMMARY}")
        for step in stage.make_steps(inputs, paths):
            for line in show_step(step):
                print(f"  {line}")
    if loaded.recipe.deploy:
        print(f"\ndeploy:{loaded.name}  (only when asked for)  to {loaded.recipe.deploy.host} by ssh")
    _print_problems(pipeline.find_problems(loaded))


def _print_problems(problems: list[XenkilnError]) -> None:
    if problems:
        print("\nIn the way on this host:")
        for problem in problems:
            print(f"- {problem}")
