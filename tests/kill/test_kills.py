"""Real builds of the default image, killed at every step: nothing is left, and the next run goes on."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cage import DOIT, STRUCK_DOIT, Cage, copy_recipes, open_cage

from xenkiln.pipeline import CHAIN
from xenkiln.system.files import remove_path

pytestmark = [pytest.mark.root, pytest.mark.network]

STEP = re.compile(r"^== ", re.MULTILINE)


@dataclass(frozen=True)
class Site:
    """A cage with recipes; what an undisturbed build did, and what it left."""

    cage: Cage
    recipes: Path
    steps: dict[str, list[bool]]
    """Stage -> for each step, in order, whether it runs a command."""
    sums: bytes

    def read_records(self) -> dict[str, bytes]:
        records = (self.cage.outside / "work" / "tiny" / f"{stage}.json" for stage in CHAIN)
        return {path.stem: path.read_bytes() for path in records if path.exists()}

    def read_sums(self) -> bytes:
        return read_sums(self.cage)

    def strike(self, stage: str, step: int, moment: str, number: signal.Signals) -> str:
        """Build until the signal strikes; what the run said."""
        code, output = self.cage.run([*STRUCK_DOIT, stage, str(step), moment, number.name, "build"], self.recipes)
        expected = [-number] if number == signal.SIGKILL else [-signal.SIGINT, 130]
        assert code in expected, f"{stage} step {step} {moment}: {code}\n{output}"
        self.cage.check_nothing_is_left()
        return output


def read_sums(cage: Cage) -> bytes:
    return (cage.outside / "images" / "tiny" / "SHA256SUMS").read_bytes()


def build(cage: Cage, recipes: Path) -> str:
    code, output = cage.run([*DOIT, "build"], recipes)
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One undisturbed build; its folder is then emptied."""
    folder = tmp_path_factory.mktemp("kills")
    recipes = copy_recipes(folder / "recipes", "tiny")
    outside = folder / "build"
    outside.mkdir()
    with open_cage(outside) as cage:
        build(cage, recipes)
        cage.check_nothing_is_left()
        steps = {}
        for stage in CHAIN:
            log = (outside / "images" / "tiny" / "logs" / f"{stage}.log").read_text()
            steps[stage] = ["\n$ " in part for part in STEP.split(log)[1:]]
        yield Site(cage, recipes, steps, read_sums(cage))


@pytest.fixture
def empty_site(site: Site) -> Site:
    for path in site.cage.outside.iterdir():
        remove_path(path)
    return site


def test_a_build_killed_at_every_step_comes_out_the_same(empty_site: Site) -> None:
    site = empty_site
    finished: dict[str, bytes] = {}
    for stage in CHAIN:
        for step, runs_command in enumerate(site.steps[stage], start=1):
            for moment in ("before", "during") if runs_command else ("before",):
                site.strike(stage, step, moment, signal.SIGKILL)
                records = site.read_records()
                assert stage not in records
                assert {name: records.get(name) for name in finished} == finished
                finished = records
    build(site.cage, site.recipes)
    site.cage.check_nothing_is_left()
    records = site.read_records()
    assert {name: records[name] for name in finished} == finished
    assert site.read_sums() == site.sums


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_build_that_is_interrupted_cleans_up_and_says_so(empty_site: Site, number: signal.Signals) -> None:
    site = empty_site
    for stage in CHAIN:
        commands = [step for step, runs_command in enumerate(site.steps[stage], start=1) if runs_command]
        step, moment = (commands[-1], "during") if commands else (len(site.steps[stage]), "before")
        output = site.strike(stage, step, moment, number)
        assert "Traceback" not in output
        assert "interrupted" in output
        assert stage not in site.read_records()
    build(site.cage, site.recipes)
    assert site.read_sums() == site.sums
