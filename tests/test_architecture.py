"""Imports go one way, one outside library lives in one room, and nothing grows too large."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_linters import list_project_files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "xenkiln"

# A room imports only from rooms of a lower floor; rooms of one floor do not know each other.
FLOORS = (
    {"", "errors"},
    {"model"},
    {"metrics", "system"},
    {"families", "installers", "repositories", "configuration", "kernels", "ramdisks", "domains",
     "artifacts", "lab", "bundle", "clouds"},
    {"stages", "publishing"},
    {"pipeline"},
    {"commands", "reporter"},
    {"actions"},
    {"tasks"},
    {"cloud_tasks"},
    {"dodo"},
)
FLOOR_OF_ROOM = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

ROOMS_OF_LIBRARY = {
    "subprocess": {"system"},
    "paramiko": {"system"},
    "cryptography": {"bundle", "clouds"},
    "isal": {"bundle"},
    "boto3": {"clouds"},
    "botocore": {"clouds"},
    "jinja2": {"system"},
    "junitparser": {"lab"},
    "qemu": {"lab"},
    "pydantic": {"model"},
    "pydantic_core": {"model"},
    "yaml": {"model"},
    "rich": {"system", "reporter", "commands"},
    "doit": {"actions", "tasks", "cloud_tasks", "reporter", "dodo"},
    "spdx_tools": set(FLOOR_OF_ROOM) - {"", "errors", "actions", "tasks", "dodo"},
}

VAGUE_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers"}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40

# Where people and build services keep their checkouts; not a path inside another one, nor a variable's.
MACHINE_PATH = re.compile(r"(?<![\w.})\]/-])/(?:work|workspace|builds|home/runner|Users/\w+)/")
PACKAGE_INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host|PIP_(?:EXTRA_)?INDEX_URL=")


def name_room(path: Path) -> str:
    """Return the folder or module directly below xenkiln that a file belongs to ("" for xenkiln itself)."""
    if path == ROOT / "dodo.py":
        return "dodo"
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def list_modules() -> list[Path]:
    return [path for path in (*sorted(PACKAGE.rglob("*.py")), ROOT / "dodo.py") if path.is_file()]


def list_imports(path: Path) -> Iterator[str]:
    """Yield every imported name in full ("xenkiln.model.recipe.Recipe"), lazy and relative imports too."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def list_imported_rooms(path: Path) -> set[str]:
    tops = {tuple(name.split(".")[:2]) for name in list_imports(path) if name.startswith("xenkiln.")}
    return {room for _, room in tops if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()}


def list_imported_libraries(path: Path) -> set[str]:
    at_home = {*sys.stdlib_module_names, "xenkiln"} - ROOMS_OF_LIBRARY.keys()
    return {name.split(".")[0] for name in list_imports(path)} - at_home


def name_file(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", list_modules(), ids=name_file)
def test_imports_go_one_way(path: Path) -> None:
    room = name_room(path)
    assert room in FLOOR_OF_ROOM, f"{room} is a new room: give it a floor in {Path(__file__).name}"
    uphill = {
        other
        for other in list_imported_rooms(path) - {room}
        if FLOOR_OF_ROOM.get(other, len(FLOORS)) >= FLOOR_OF_ROOM[room]
    }
    assert not uphill, f"{room} must not know {uphill}"


@pytest.mark.parametrize("path", list_modules(), ids=name_file)
def test_outside_libraries_live_in_one_room(path: Path) -> None:
    strangers = {
        library
        for library in list_imported_libraries(path)
        if name_room(path) not in ROOMS_OF_LIBRARY.get(library, set())
    }
    assert not strangers, f"{strangers} may not be used in {name_room(path)}"


def test_one_module_alone_knows_the_sbom_library() -> None:
    users = [name_file(path) for path in list_modules() if "spdx_tools" in list_imported_libraries(path)]
    assert len(users) <= 1


@pytest.mark.parametrize("path", [p for p in list_project_files() if p.suffix == ".py"], ids=name_file)
def test_files_are_short_and_named_well(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{lines} lines: it holds more than one thing"
    assert not VAGUE_NAMES.intersection({path.stem, *path.relative_to(ROOT).parts[:-1]})


@pytest.mark.parametrize("path", list_modules(), ids=name_file)
def test_functions_are_short(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: count_code_lines(f) for f in functions if count_code_lines(f) > MAX_FUNCTION_LINES}
    assert not long


def count_code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines without its docstring: explaining is never too long."""
    first = function.body[0]
    explains = ast.get_docstring(function) is not None and first.end_lineno is not None
    docstring_lines = first.end_lineno - first.lineno + 1 if explains and first.end_lineno else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring_lines


@pytest.mark.parametrize("path", list_project_files(), ids=name_file)
def test_no_file_speaks_of_the_machine_it_was_made_on(path: Path) -> None:
    text = path.read_bytes().decode(errors="replace")
    assert not MACHINE_PATH.search(text)
    assert path == Path(__file__) or not PACKAGE_INDEX.search(text), "pip is used as the host configures it"


def test_every_form_of_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "xenkiln/stages/seal.py"
    module.parent.mkdir(parents=True)
    lines = (
        "import a.b as c",
        "from ..system.files import d",
        "from . import e",
        "if f: from xenkiln import model",
    )
    module.write_text("\n".join(lines))
    seen = ["a.b", "xenkiln.system.files.d", "xenkiln.stages.e", "xenkiln.model"]
    assert sorted(list_imports(module)) == sorted(seen)
