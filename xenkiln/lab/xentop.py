"""What the domains of a Xen host use, as `xl list` and xentop(1) say it there: a metric source.

One reading is one command on the host, with its own clock beside it. Units and views:

- cpu_seconds: counter, s. Of xl, which prints tenths; xentop prints whole seconds.
- memory: level, MiB. xentop's MEM(k), what the domain has now.
- network_sent, network_received: counters, bytes, as the domain sees them, all its vifs together, in steps of 1024.
  libxenstat reads them from the host's end of the vif (/proc/net/dev there), where what the domain sends is received:
  xentop's NETRX(k) is what the domain has sent (tools/libs/stat/xenstat_linux.c, tot_net_bytes in xentop.c).
- disk_read, disk_written: counters, bytes, all vbds together. VBD_RSECT and VBD_WSECT count sectors of 512 bytes
  whatever the disk's own are (xen/include/public/io/blkif.h).
- disk_reads, disk_writes: counters, operations.

A domain has no network or disk samples where xentop sees no vif or vbd of it: Domain-0, and every domain's network
on a host without a Linux bridge (Open vSwitch, routed), where libxenstat mistakes vifs for the host's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from xenkiln.errors import CommandError, HostError
from xenkiln.metrics.sample import Sample

if TYPE_CHECKING:
    from xenkiln.system.ssh import Remote

SEPARATOR = "---"
"""Alone on its line; a row always has more on it, whatever a domain is called."""
# Debian keeps xentop in the folder of the Xen that runs; its wrapper on the PATH is of another package.
SCRIPT = f"""version=$(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor)
PATH=$PATH:/usr/lib/xen-$version/bin
date +%s.%N && echo {SEPARATOR} && xl list && echo {SEPARATOR} && xentop -b -f -i 1"""

DESTROYED = "(null)"
"""What xl prints for a domain whose name has gone from xenstore already."""
DYING = "d"
UNKNOWN = ("-", "n/a")
"""xentop's words for what it could not read."""
WORD = "[^ \t]+"
SHAPES = {"State": "[a-z-]{6}", "STATE": "[a-z-]{6}", "MAXMEM(k)": f"no limit|{WORD}"}
"""Columns that are less or more than any one word."""


@dataclass(frozen=True)
class Column:
    """A metric and the column it is read from, times `factor`; `devices` is the column that counts what has it."""

    metric: str
    unit: str
    heading: str
    factor: float = 1
    devices: str = ""


XL = (Column("cpu_seconds", "s", "Time(s)"),)
XENTOP = (
    Column("memory", "MiB", "MEM(k)", 1 / 1024),
    Column("network_sent", "bytes", "NETRX(k)", 1024, "NETS"),
    Column("network_received", "bytes", "NETTX(k)", 1024, "NETS"),
    Column("disk_read", "bytes", "VBD_RSECT", 512, "VBDS"),
    Column("disk_written", "bytes", "VBD_WSECT", 512, "VBDS"),
    Column("disk_reads", "operations", "VBD_RD", 1, "VBDS"),
    Column("disk_writes", "operations", "VBD_WR", 1, "VBDS"),
)
UNITS = {column.metric: column.unit for column in (*XL, *XENTOP)}


@dataclass(frozen=True)
class Reading:
    """What all domains had used at one time (s since 1970); values: (domain, metric) -> number."""

    time: float
    values: Mapping[tuple[str, str], float]


def read_domains(remote: Remote) -> Reading:
    """Read the counters of all domains once; takes a fraction of a second there.

    Raises HostError when xl or xentop fail there or print what is not understood, ConnectionLostError.
    """
    try:
        answer = remote.run(["sh", "-c", SCRIPT])
    except CommandError as error:
        raise HostError(
            f"`xl list` or xentop fails: {' '.join(error.last_lines) or error.fact}",
            place=remote.name,
            next_step="boot that host into Xen, log in as root there, and install its xentop (Debian: xen-utils)",
        ) from error
    return parse_reading(answer.out, remote.name)


def watch_domains(remote: Remote, count: int, interval_seconds: float) -> list[Sample]:
    """Read `count` times, every `interval_seconds`; what read_domains and make_samples raise."""
    begun = time.monotonic()
    readings = []
    for number in range(count):
        time.sleep(max(0.0, begun + number * interval_seconds - time.monotonic()))
        readings.append(read_domains(remote))
    return make_samples(readings, remote.name)


def make_samples(readings: Sequence[Reading], host: str) -> list[Sample]:
    """Readings, oldest first, as a sample per domain and metric, each over the readings that have it.

    labels: domain, host. Raises HostError when the host's clock was set back between two of them.
    """
    for before, after in pairwise(readings):
        if after.time <= before.time:
            raise HostError(
                f"its clock went from {before.time:.3f} to {after.time:.3f} between two readings",
                place=host,
                next_step="let that host's time settle (chronyc tracking), then measure again",
            )
    found = {key for reading in readings for key in reading.values}
    samples = []
    for domain, metric in sorted(found, key=lambda key: (key[0], list(UNITS).index(key[1]))):
        points = [(reading.time, reading.values[domain, metric]) for reading in readings
                  if (domain, metric) in reading.values]  # fmt: skip
        times, values = zip(*points, strict=True)
        samples.append(Sample(metric, UNITS[metric], {"domain": domain, "host": host}, times, values))
    return samples


def parse_reading(text: str, host: str) -> Reading:
    """What SCRIPT prints: the time, `xl list` and xentop, a SEPARATOR between them; raises HostError."""
    clock, *tables = text.split(f"\n{SEPARATOR}\n")
    if not re.fullmatch(r"[0-9]+\.[0-9]+", clock):
        raise _error(f"{host}: date +%s.%N", f"prints {clock[:80]!r} instead of seconds since 1970")
    if len(tables) != 2:
        raise _error(f"{host}: xl list", "is not followed by xentop's table")
    values = dict(_read_values(tables[0], XL, f"{host}: xl list"))
    values.update(_read_values(tables[1], XENTOP, f"{host}: xentop -b -f -i 1"))
    return Reading(float(clock), values)


def _read_values(text: str, columns: Sequence[Column], place: str) -> Iterator[tuple[tuple[str, str], float]]:
    for domain, row in parse_table(text, columns, place).items():
        for column in columns:
            if column.devices and _read_number(row, column.devices, place) == 0:
                continue
            number = _read_number(row, column.heading, place)
            if number is not None:
                yield (domain, column.metric), number * column.factor


def parse_table(text: str, columns: Iterable[Column], place: str) -> dict[str, dict[str, str]]:
    """A table of xl or xentop as domain -> heading -> word, with no more known of it than its header says.

    Names may contain anything but a line's end. Of two domains of one name, the one that is not dying counts.
    Raises HostError for a table without one of the columns, and a line that does not fit its header.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(" \t")]
    headings = lines[0][1].split() if lines else []
    state = "State" if headings[:1] == ["Name"] else "STATE"
    wanted = {state, *(heading for column in columns for heading in (column.heading, column.devices) if heading)}
    if headings[:1] not in (["Name"], ["NAME"]) or not wanted <= set(headings):
        missing = ", ".join(sorted(wanted - set(headings))) or "the name"
        raise _error(place, f"its header lacks {missing}: {' '.join(headings) or 'there is none'}")
    cells = "".join(f"[ \t]+({SHAPES.get(heading, WORD)})" for heading in headings[1:])
    # The shortest name that fits: "no limit" is one cell wherever it can be one.
    pattern = re.compile(rf"[ \t]*([^ \t](?:.*?[^ \t])?){cells}[ \t]*", re.DOTALL)
    rows = []
    for number, line in lines[1:]:
        found = pattern.fullmatch(line)
        if not found:
            raise _error(place, f"line {number} does not fit the header: {line!r}")
        rows.append(dict(zip(headings, found.groups(), strict=True)))
    rows.sort(key=lambda row: DYING not in row[state])
    return {row[headings[0]]: row for row in rows if row[headings[0]] != DESTROYED}


def _read_number(row: Mapping[str, str], heading: str, place: str) -> float | None:
    word = row[heading]
    if word in UNKNOWN:
        return None
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", word):
        raise _error(place, f"{heading} is {word!r}, not a number: {' '.join(row.values())}")
    return float(word)


def _error(place: str, fact: str) -> HostError:
    command = place.partition(": ")[2]
    return HostError(fact, place=place, next_step=f"run `{command}` there; what Xen 4.17 prints is understood")
