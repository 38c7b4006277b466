"""Every module of a folder of variants offers what its contract asks for; a new one is covered by lying there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import xenkiln
from xenkiln import pipeline
from xenkiln.families.contract import Family
from xenkiln.installers.contract import Installer
from xenkiln.model.image import Ramdisk
from xenkiln.pipeline import Stage
from xenkiln.ramdisks.contract import RamdiskMaker
from xenkiln.repositories.contract import RepositoryMaker
from xenkiln.system.steps import Step

CONTRACTS: dict[str, tuple[type, str]] = {
    "families": (Family, "INSTALLER"),
    "installers": (Installer, "RESOLVE_TOOLS"),
    "ramdisks": (RamdiskMaker, "FRONT_ENDS"),
    "repositories": (RepositoryMaker, "ARCHITECTURES"),
    "stages": (Stage, "NEEDS"),
}
"""Folder -> its contract, and the name by which a variant is told from what the variants share."""


def list_rooms(folder: str) -> Iterator[ModuleType]:
    """The modules and packages directly in a folder of xenkiln."""
    path = Path(xenkiln.__path__[0]) / folder
    for found in pkgutil.iter_modules([str(path)]):
        yield importlib.import_module(f"xenkiln.{folder}.{found.name}")


VARIANTS = [
    (contract, module)
    for folder, (contract, mark) in CONTRACTS.items()
    for module in list_rooms(folder)
    if hasattr(module, mark)
]
NAMES = [module.__name__.removeprefix("xenkiln.") for _, module in VARIANTS]


def list_functions(contract: type) -> dict[str, inspect.Signature]:
    """The functions of a contract, without `self`."""
    found = {}
    for name, function in inspect.getmembers(contract, inspect.isfunction):
        if not name.startswith("_"):
            signature = inspect.signature(function)
            found[name] = signature.replace(parameters=list(signature.parameters.values())[1:])
    return found


def list_values(contract: type) -> dict[str, Any]:
    """The constants of a contract and their types."""
    return get_type_hints(contract)


def is_of_type(value: object, wanted: object) -> bool:
    """Whether a constant has the type of the contract: text, or a tuple of texts."""
    if wanted is str:
        return isinstance(value, str)
    assert wanted == tuple[str, ...], f"a contract asks for a {wanted}: say here how to check that"
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


@pytest.mark.parametrize(("contract", "module"), VARIANTS, ids=NAMES)
def test_the_constants_are_there(contract: type, module: ModuleType) -> None:
    for name, wanted in list_values(contract).items():
        assert is_of_type(getattr(module, name, None), wanted), f"{name}: {wanted}"


@pytest.mark.parametrize(("contract", "module"), VARIANTS, ids=NAMES)
def test_the_functions_are_there_and_take_the_same(contract: type, module: ModuleType) -> None:
    for name, wanted in list_functions(contract).items():
        function = getattr(module, name, None)
        assert callable(function), f"{name} is missing"
        given = inspect.signature(function)
        assert list(given.parameters) == list(wanted.parameters), name
        kinds = {parameter: value.kind for parameter, value in wanted.parameters.items()}
        assert {parameter: value.kind for parameter, value in given.parameters.items()} == kinds, name


@pytest.mark.parametrize(("contract", "module"), VARIANTS, ids=NAMES)
def test_the_types_agree(contract: type, module: ModuleType) -> None:
    """A module is no instance, so mypy does not see this by itself."""
    for name in list_functions(contract):
        wanted, given = get_type_hints(getattr(contract, name)), get_type_hints(getattr(module, name))
        for parameter, kind in wanted.items():
            if Any not in (kind, given[parameter]) and parameter != "return":
                assert given[parameter] == kind, f"{name}: {parameter}"


@pytest.mark.parametrize(("contract", "module"), VARIANTS, ids=NAMES)
def test_the_docstring_says_what_it_is(contract: type, module: ModuleType) -> None:
    assert (module.__doc__ or "").strip()


@pytest.mark.parametrize("folder", CONTRACTS)
def test_every_folder_has_variants(folder: str) -> None:
    assert list_variants(folder)


def list_variants(folder: str) -> list[ModuleType]:
    return [module for _, module in VARIANTS if module.__name__.startswith(f"xenkiln.{folder}.")]


@pytest.mark.parametrize("family", list_variants("families"), ids=lambda module: module.__name__)
def test_a_familys_installer_is_there(family: Any) -> None:
    assert hasattr(importlib.import_module(f"xenkiln.installers.{family.INSTALLER}"), "RESOLVE_TOOLS")


@pytest.mark.parametrize("family", list_variants("families"), ids=lambda module: module.__name__)
def test_what_a_family_cleans_stays_below_the_root(family: Any) -> None:
    for pattern in (*family.CLEANUP, *family.TRUNCATE):
        assert pattern
        assert not pattern.startswith(("/", "*"))
        assert ".." not in pattern.split("/")


@pytest.mark.parametrize("maker", list_variants("ramdisks"), ids=lambda module: module.__name__)
def test_a_ramdisk_maker_works_inside_the_root(maker: Any) -> None:
    root = Path("/ROOT")
    steps: list[Step] = maker.make_ramdisk_steps(Ramdisk(maker="any"), "ext3", root, "/tmp/out.img")
    assert steps
    assert not [step for step in steps if getattr(step, "root", root) not in (root, None)]


def test_the_chain_is_made_of_stages() -> None:
    stages = {name: pipeline.load_stage(name) for name in pipeline.CHAIN}
    for number, (name, stage) in enumerate(stages.items()):
        assert set(stage.NEEDS) <= set(pipeline.CHAIN[:number]), f"{name} needs what comes later"
        assert stage.SUMMARY


@pytest.mark.parametrize("module", list(list_rooms("commands")), ids=lambda module: module.__name__)
def test_a_command_can_be_run(module: Any) -> None:
    """`doit NAME` calls run(); the first line of its docstring says what for."""
    name = module.__name__.rpartition(".")[2]
    assert module.__doc__.startswith(name), module.__doc__
    assert get_type_hints(module.run)["return"] in (type(None), int, bool)
