"""A boot as a JUnit file, which continuous integration shows: one test case for each expectation."""

from __future__ import annotations

from pathlib import Path

from junitparser import Failure, JUnitXml, TestCase, TestSuite

from xenkiln.model.boot_record import BootRecord
from xenkiln.system.commands import make_printable


def write_junit(record: BootRecord, path: Path) -> None:
    """Write the suite `boot:NAME`: what was met, with the seconds since the one before, and what was not, and why."""
    suite = TestSuite(f"boot:{record.name}")
    before = 0.0
    # All count from the guest's start; a reader adds the times of a suite's cases up.
    for met in sorted(record.expectations, key=lambda met: met.seconds):
        seconds = round(met.seconds - before, 2)
        suite.add_testcase(TestCase(make_printable(met.name), classname=record.name, time=seconds))
        before = met.seconds
    if failure := record.failure:
        said = [f"{failure.phase}: {failure.fact}", f"likely cause: {failure.cause}", f"next: {failure.next_step}",
                *failure.last_lines]  # fmt: skip
        told = "\n".join(map(make_printable, said))
        for name, lack in (failure.lacks or {"it starts": failure.fact}).items():
            case = TestCase(make_printable(name), classname=record.name)
            case.result = [Failure(make_printable(lack), "boot")]
            case.result[0].text = told
            suite.add_testcase(case)
    xml = JUnitXml()
    xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    xml.write(str(path), pretty=True)
