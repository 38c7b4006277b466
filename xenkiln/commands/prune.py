"""prune:CLOUD: keep the newest images of each name that was published there, and take the others back."""

from __future__ import annotations

from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.pruning import prune
from xenkiln.system.layout import build_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.progress import show_progress


def run(cloud: LoadedCloud) -> None:
    """Take back what is older than the newest `keep` of its name and is not running."""
    folder = build_folder() / "clouds" / cloud.name
    with (
        show_progress(f"prune:{cloud.name}") as tell,
        hold_lock(folder / "prune.lock", f"the pruning of {cloud.name}"),
    ):
        gone, kept = prune(open_target(cloud, tell), cloud.recipe.keep, tell)
    print(f"prune:{cloud.name}  {len(gone)} taken back, {len(kept)} kept{''.join(f', {each}' for each in gone)}")
