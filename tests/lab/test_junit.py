"""A boot as JUnit, read back by another's eyes, and as boot.json."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Failure as JUnitFailure
from junitparser import JUnitXml, TestCase

from xenkiln.lab.junit import write_junit
from xenkiln.model.boot_record import BootRecord, Failure, Met, dump_boot_record
from xenkiln.model.records import SCHEMA_VERSION, StepTime

TestCase.__test__ = False  # its name is not ours to choose

PASSED = BootRecord(
    name="tiny",
    key="7a2d",
    started=1700000000.125,
    result="passed",
    accelerator="tcg",
    steps=(StepTime("qemu", 0.5), StepTime("guest kernel", 10.25)),
    expectations=(Met("console says 'tiny: ready'", 29.0), Met("`cat /etc/os-release` succeeds & prints '<x>'", 33.58)),
    hypervisor="xen",
    guest_type="PV",
    kernel="6.1.0-38-amd64",
    memory_mib=60,
    addresses=("10.0.2.50/28",),
)
FAILURE = Failure(
    "guest init", "not all was met within 90 s", "the guest has not been seen on the network", "look for xen-netfront",
    {"ssh lets us in": "no ssh server has answered yet", "the meta-data is fetched": "not reached"},
    ("tiny: network not up", "tiny login: "),
)  # fmt: skip
FAILED = replace(PASSED, result="failed", expectations=PASSED.expectations[:1], failure=FAILURE)


def read_cases(record: BootRecord, folder: Path) -> dict[str, TestCase]:
    """Name -> test case, of a file in which all numbers add up."""
    path = folder / "boot.junit.xml"
    write_junit(record, path)
    (suite,) = JUnitXml.fromfile(str(path))
    cases = list(suite)
    assert suite.name == f"boot:{record.name}"
    assert {case.classname for case in cases} == {record.name}
    failed = [case for case in cases if case.result]
    assert (suite.tests, suite.failures, suite.errors) == (len(cases), len(failed), 0)
    return {str(case.name): case for case in cases}


def read_failure(case: TestCase) -> tuple[str, str]:
    (result,) = case.result
    assert isinstance(result, JUnitFailure)
    return str(result.message), str(result.text)


def test_what_was_met_passes_with_its_seconds(tmp_path: Path) -> None:
    cases = read_cases(PASSED, tmp_path)
    ends = [met.seconds for met in PASSED.expectations]
    assert ends == sorted(ends)
    times = [cases[met.name].time for met in PASSED.expectations]
    assert times == [round(end - start, 2) for start, end in zip([0, *ends], ends, strict=False)]
    assert sum(times) == pytest.approx(ends[-1])
    assert not [case for case in cases.values() if case.result]


def test_what_was_not_met_fails_with_the_likely_cause(tmp_path: Path) -> None:
    cases = read_cases(FAILED, tmp_path)
    assert not cases.pop("console says 'tiny: ready'").result
    assert {name: read_failure(case)[0] for name, case in cases.items()} == FAILURE.lacks
    assert {read_failure(case)[1] for case in cases.values()} == {
        ("guest init: not all was met within 90 s\n"
        "likely cause: the guest has not been seen on the network\n"
        "next: look for xen-netfront\n"
        "tiny: network not up\n"
        "tiny login: ")
    }


def test_a_guest_that_was_never_created_is_a_failure_too(tmp_path: Path) -> None:
    failure = replace(FAILURE, phase="guest created", fact="xl cannot create it", lacks={}, last_lines=())
    cases = read_cases(replace(FAILED, expectations=(), failure=failure), tmp_path)
    assert {name: read_failure(case)[0] for name, case in cases.items()} == {"it starts": "xl cannot create it"}


@pytest.mark.parametrize("said", ["exit code 1: \x1b[31mred\x1b[0m", "nul \0 and bell \x07", "\ufffe", "]]>", "<&\"'"])
def test_whatever_a_guest_prints_the_file_can_be_read(tmp_path: Path, said: str) -> None:
    cases = read_cases(replace(FAILED, failure=replace(FAILURE, fact=said, lacks={"ssh lets us in": said})), tmp_path)
    message, text = read_failure(cases["ssh lets us in"])
    assert message
    assert text.startswith("guest init: ")


@pytest.mark.parametrize("record", [PASSED, FAILED, replace(PASSED, memory_mib=None, addresses=())])
def test_boot_json_holds_every_key_and_gives_the_record_back(record: BootRecord) -> None:
    text = dump_boot_record(record)
    told = json.loads(text)
    assert told.keys() == {each.name for each in fields(BootRecord)}
    assert (told["kind"], told["schema_version"]) == ("boot", SCHEMA_VERSION)
    failure = told["failure"] and Failure(**{**told["failure"], "last_lines": tuple(told["failure"]["last_lines"])})
    again = BootRecord(**{
        **told, "steps": tuple(StepTime(**each) for each in told["steps"]), "failure": failure,
        "expectations": tuple(Met(**each) for each in told["expectations"]), "addresses": tuple(told["addresses"]),
    })  # fmt: skip
    assert again == record
    assert dump_boot_record(again) == text


@given(st.lists(st.floats(0, 1e4), max_size=8))
def test_a_boot_takes_as_long_as_its_phases(seconds: list[float]) -> None:
    record = replace(PASSED, steps=tuple(StepTime(f"phase {number}", each) for number, each in enumerate(seconds)))
    assert record.seconds == pytest.approx(sum(seconds))
    assert "seconds" not in asdict(record)
