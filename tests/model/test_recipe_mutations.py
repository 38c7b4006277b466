"""Whatever a file holds, loading it gives a recipe or a RecipeError that says where."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenkiln.errors import RecipeError
from xenkiln.model.loader import Loaded, LoadedImage, load_image

FULL = (Path(__file__).parent / "full.yaml").read_text(encoding="utf-8")
PLAIN = yaml.safe_load(FULL)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.sampled_from(["", "no", "0755", "22:22", "../x", "/etc", "$x", "-x", "a\nb", "a b", "\0", "{{ x }}"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


def list_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, inner in entries for place in list_places(inner, (*path, key)))]


PLACES = list_places(PLAIN)[1:]

# In Python it takes longer than what is tested here.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

pytestmark = pytest.mark.usefixtures("fixed_modules")
UNTIMED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def dump(recipe: object, *, allow_unicode: bool = False) -> str:
    return str(yaml.dump(recipe, Dumper=DUMPER, allow_unicode=allow_unicode, sort_keys=False))


def load_bytes(data: bytes) -> LoadedImage | RecipeError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes(data)
        for name in ("motd.j2", "setup.sh", "alice.pub", "key.asc"):
            (Path(folder) / name).touch()
        try:
            return load_image(path)
        except RecipeError as error:
            refusal = error
    lines = data.count(b"\n") + 1
    assert refusal.problems
    assert all(0 <= problem.line <= lines and problem.fact for problem in refusal.problems)
    return refusal


def test_the_unchanged_recipe_loads() -> None:
    assert isinstance(load_bytes(FULL.encode()), Loaded)


@settings(UNTIMED, max_examples=400)
@given(st.data())
def test_a_changed_recipe_loads_or_is_refused_with_a_line(data: st.DataObject) -> None:
    recipe = copy.deepcopy(PLAIN)
    for place in data.draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        section: Any = recipe
        try:
            for step in place[:-1]:
                section = section[step]
            match data.draw(st.sampled_from(["drop", "replace", "add"])):
                case "drop":
                    del section[place[-1]]
                case "replace":
                    section[place[-1]] = data.draw(values)
                case "add":
                    section[data.draw(st.text(max_size=12))] = data.draw(values)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    outcome = load_bytes(dump(recipe, allow_unicode=True).encode())
    if isinstance(outcome, RecipeError):
        assert all(problem.line > 0 for problem in outcome.problems)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("value", [None, True, 7, 7.5, "word", [], {}, "drop"], ids=repr)
def test_each_field_of_another_type_is_no_surprise(place: tuple[Any, ...], value: Any) -> None:
    recipe = copy.deepcopy(PLAIN)
    section: Any = recipe
    for step in place[:-1]:
        section = section[step]
    if value == "drop":
        del section[place[-1]]
    else:
        section[place[-1]] = value
    outcome = load_bytes(dump(recipe).encode())
    if isinstance(outcome, RecipeError):
        assert all(problem.line > 0 for problem in outcome.problems)


@settings(UNTIMED, max_examples=400)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
)
def test_random_bytes_are_refused(data: bytes) -> None:
    assert isinstance(load_bytes(data), RecipeError)


@settings(UNTIMED, max_examples=400)
@given(
    st.integers(0, len(FULL)),
    st.text("\t \n:-[]{}&*!|>'\"%@`#?,<0x\x85\u2028", max_size=4),
    st.integers(0, 6),
)
def test_a_slip_of_the_pen_is_no_surprise(position: int, text: str, removed: int) -> None:
    load_bytes((FULL[:position] + text + FULL[position + removed :]).encode())


@settings(UNTIMED, max_examples=200)
@given(values)
def test_any_yaml_is_refused(value: Any) -> None:
    assert isinstance(load_bytes(dump(value).encode(errors="replace")), RecipeError)
