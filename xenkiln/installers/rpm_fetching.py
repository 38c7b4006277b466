"""Rpm files into the shared cache: from the recipe's mirrors, checked by checksum and by signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.installers.cache import cache_file, keep_file
from xenkiln.installers.contract import Selection
from xenkiln.installers.downloads import Failure, Wanted, fetch_all, join_url
from xenkiln.installers.index_fields import place_by_checksum
from xenkiln.installers.rpm_metadata import Entry
from xenkiln.installers.rpm_signatures import check_signatures, make_keyring
from xenkiln.installers.yum_commands import list_baseurls
from xenkiln.model.image import Repository
from xenkiln.model.packages import Package, PackagePlan
from xenkiln.system.execution import Context
from xenkiln.system.files import hash_file, remove_path

_SHOWN = 20


def make_packages(selection: Selection, found: Mapping[Entry, str], context: Context) -> list[Package]:
    """The plan's packages from index entries and the repositories they are in.

    Indexes older than Enterprise Linux 6 know SHA-1 only; such packages are fetched here to learn their SHA-256.
    """
    old = [entry for entry in found if entry.algorithm != "sha256"]
    learned = _learn_checksums(selection, {entry: found[entry] for entry in old}, context)
    return [
        Package(*entry.identity, learned.get(entry, entry.checksum), entry.size, -(-entry.installed_bytes // 1024),
                entry.location, origin)
        for entry, origin in found.items()
    ]  # fmt: skip


def fetch_packages(selection: Selection, plan: PackagePlan, context: Context) -> list[Path]:
    """Every package of the plan in the cache, in plan order; each hashed again, whoever put it there."""
    check_keys_given(selection)
    _check_origins(selection, plan)
    cache = context.paths.cache
    missing = [package for package in plan.packages if not _is_kept(cache, package)]
    with _open_folder(context) as folder:
        wanted = {
            package: Wanted(_list_urls(selection, package.origin, package.location, context),
                            place_by_checksum(folder, package.sha256), "sha256", package.sha256, package.size)
            for package in missing
        }  # fmt: skip
        _fetch(list(wanted.values()), {item.target: package.full_name for package, item in wanted.items()}, context)
        files = {package: wanted[package].target for package in missing}
        files |= {package: cache_file(cache, package) for package in plan.packages if package not in wanted}
        if selection.packages.signatures == "required":
            _check_by_repository(selection, files, context)
        for package in missing:
            keep_file(cache, package, files[package])
    return [cache_file(cache, package) for package in plan.packages]


def check_keys_given(selection: Selection) -> None:
    """Raise BuildError for a repository whose signatures are to be checked with no key at all."""
    without = [repository.name for repository in selection.packages.repositories if not repository.gpgkeys]
    if without and selection.packages.signatures == "required":
        raise BuildError(
            f"signatures are required, and there are no gpgkeys for repository {', '.join(without)}",
            next_step="give its gpgkeys, or say `signatures: not checked`",
        )


@contextmanager
def _open_folder(context: Context) -> Iterator[Path]:
    """Where fetched files wait for their checks, on the cache's own filesystem; what a killed run left there goes."""
    folder = context.paths.cache / "fetching"
    remove_path(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        # A fetch that is given up may still be writing: that must not hide why.
        with suppress(OSError):
            remove_path(folder)


def _is_kept(cache: Path, package: Package) -> bool:
    path = cache_file(cache, package)
    return path.is_file() and hash_file(path) == package.sha256


def _check_origins(selection: Selection, plan: PackagePlan) -> None:
    known = {repository.name for repository in selection.packages.repositories}
    if strange := sorted({package.origin for package in plan.packages} - known):
        raise BuildError(
            f"the lock names repositories that the recipe does not have: {', '.join(strange)}",
            next_step="give the repository its old name, or lock the recipe again",
        )


def _learn_checksums(selection: Selection, found: Mapping[Entry, str], context: Context) -> dict[Entry, str]:
    if not found:
        return {}
    checksums = {}
    with _open_folder(context) as folder:
        wanted = {
            entry: Wanted(_list_urls(selection, origin, entry.location, context), folder / str(number),
                          entry.algorithm, entry.checksum, entry.size)
            for number, (entry, origin) in enumerate(found.items())
        }  # fmt: skip
        names = {item.target: " ".join(entry.identity) for entry, item in wanted.items()}
        _fetch(list(wanted.values()), names, context)
        for entry, item in wanted.items():
            checksums[entry] = hash_file(item.target)
            kept = context.paths.cache / "packages" / checksums[entry]
            kept.parent.mkdir(parents=True, exist_ok=True)
            item.target.rename(kept)
    return checksums


def _list_urls(selection: Selection, origin: str, location: str, context: Context) -> tuple[str, ...]:
    repository = _get_repository(selection, origin)
    return tuple(join_url(base, location) for base in list_baseurls(repository, selection, context.paths))


def _get_repository(selection: Selection, name: str) -> Repository:
    return next(repository for repository in selection.packages.repositories if repository.name == name)


def _fetch(wanted: Sequence[Wanted], names: Mapping[Path, str], context: Context) -> None:
    if not wanted:
        return
    megabytes = sum(item.size for item in wanted) / 1e6
    failures = fetch_all(wanted, _make_teller(context.tell, len(wanted), megabytes))
    for failure in failures:
        for reason in failure.reasons:
            context.runner.note(f"# {names[failure.wanted.target]}: {reason}")
    if failures:
        raise _explain(failures, names, context)


def _make_teller(tell: Callable[[str], None], total: int, megabytes: float) -> Callable[[int], None]:
    return lambda done: tell(f"fetch {total} packages, {megabytes:.1f} MB: {done}/{total}")


def _explain(failures: Sequence[Failure], names: Mapping[Path, str], context: Context) -> BuildError:
    lines = [f"{names[failure.wanted.target]} ({'; '.join(failure.reasons)})" for failure in failures[:_SHOWN]]
    lines += [f"and {len(failures) - _SHOWN} more"] if len(failures) > _SHOWN else []
    if all(failure.gone for failure in failures):
        fact = "no mirror has these packages any more"
        next_step = f"doit lock:{context.paths.name} takes what the mirrors have today"
    else:
        fact = "no mirror gave these packages"
        next_step = "check the network, or name another mirror under baseurls"
    return BuildError(f"{fact}:\n  " + "\n  ".join(lines), place=context.paths.name, next_step=next_step)


def _check_by_repository(selection: Selection, files: Mapping[Package, Path], context: Context) -> None:
    """A repository's packages are checked with its own keys: one repository's key signs nothing of another."""
    for repository in selection.packages.repositories:
        own = {package: path for package, path in files.items() if package.origin == repository.name}
        if own:
            keys = [context.paths.recipes / key for key in repository.gpgkeys]
            keyring = make_keyring(context.paths.work / "keyring", keys, context.runner)
            check_signatures(keyring, list(own.values()), [p.full_name for p in own], context.runner)
