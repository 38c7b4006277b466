"""Signatures of rpm files, checked against the recipe's keys and no others, before anything is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xenkiln.errors import BuildError, CommandError
from xenkiln.system.commands import Runner
from xenkiln.system.files import remove_path

_SHOWN = 10


def make_keyring(folder: Path, keys: Sequence[Path], runner: Runner) -> Path:
    """An rpm database with just these keys in it: the host's own keyring never counts."""
    remove_path(folder)
    folder.mkdir(parents=True)
    for key in keys:
        try:
            runner.run(["rpmkeys", "--dbpath", str(folder), "--import", str(key)])
        except CommandError as error:
            raise BuildError(
                "is not a public key that rpm can use", place=str(key),
                next_step="give the repository's armoured public key under packages.repositories.gpgkeys",
            ) from error  # fmt: skip
    return folder


def check_signatures(keyring: Path, files: Sequence[Path], names: Sequence[str], runner: Runner) -> None:
    """Raise one BuildError with every file that has no good signature by a key of `keyring`.

    `_pkgverify_level signature` makes a missing signature a failure (rpmkeys(8), rpm 4.14.2 and later); the
    digests of header and payload are checked with it.
    """
    if not files:
        return
    argv = ["rpmkeys", "--dbpath", str(keyring), "--define", "_pkgverify_level signature", "--checksig"]
    verdicts = runner.read([*argv, *map(str, files)], accept=range(256)).splitlines()
    good = {verdict.rpartition(":")[0] for verdict in verdicts if verdict.endswith("digests signatures OK")}
    bad = [(file, name) for file, name in zip(files, names, strict=True) if str(file) not in good]
    if not bad:
        return
    facts = [f"{name}: {_find_fault([*argv, '-v', str(file)], runner)}" for file, name in bad[:_SHOWN]]
    facts += [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    raise BuildError(
        f"{len(bad)} of {len(files)} packages have no good signature by the recipe's keys:\n  " + "\n  ".join(facts),
        next_step="give the right key under packages.repositories.gpgkeys, or another mirror; only a recipe that"
        " says `signatures: not checked` goes without",
    )  # fmt: skip


def _find_fault(argv: Sequence[str], runner: Runner) -> str:
    lines = [line.strip() for line in runner.read(argv, accept=range(256)).splitlines()[1:]]
    for mark, fact in (("BAD", "was changed after it was signed"), ("NOKEY", "is signed by another key")):
        for line in lines:
            if f": {mark}" in line:
                return f"{fact} ({line})"
    signatures = [line for line in lines if "ignature" in line]
    if all(line.endswith(": NOTFOUND") for line in signatures):
        return "is not signed"
    return "; ".join(line for line in lines if not line.endswith(": OK")) or "its signature is not accepted"
