"""keypair:CLOUD: the key pair that instances get, made once; the private key stays here alone."""

from __future__ import annotations

from pathlib import Path

from xenkiln.errors import HostError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.target import Target
from xenkiln.system.files import write_finished
from xenkiln.system.layout import build_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.progress import show_progress


def run(cloud: LoadedCloud) -> None:
    """Make it where the cloud has none of that name; one whose private key is not here is left alone."""
    name = cloud.recipe.keypair
    path = key_path(cloud.name, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        show_progress(f"keypair:{cloud.name}") as tell,
        hold_lock(path.with_name("lock"), f"the key pairs of {cloud.name}", wait=True),
    ):
        is_new = make_keypair(open_target(cloud, tell), name, path)
    print(f"keypair:{cloud.name}  {name}  {'' if is_new else 'up to date: '}{path}")


def make_keypair(target: Target, name: str, path: Path) -> bool:
    """Whether it was made now; HostError where only the cloud has it."""
    if name in target.compute.list_keypairs():
        if path.is_file() and path.stat().st_size:
            return False
        raise HostError(f"the cloud has a key pair {name}, and its private key is not here", place=str(path),
                        next_step=f"put it there, or name another: keypair: NAME in {target.place}")  # fmt: skip
    write_finished(path, target.compute.create_keypair(name), 0o600)
    return True


def key_path(cloud: str, name: str) -> Path:
    """Where the private key is kept."""
    return build_folder() / "clouds" / cloud / "keys" / f"{name}.pem"
