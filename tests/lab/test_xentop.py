"""xentop as a metric source: what real hosts print, what odd ones print, and a host that answers by a script."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.errors import CommandError, HostError
from xenkiln.lab import xentop
from xenkiln.lab.xentop import Reading, make_samples, parse_reading, read_domains, watch_domains
from xenkiln.metrics.sample import Sample
from xenkiln.system.ssh import Answer, Remote

HOST = "root@xen"
XL_HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
XL_DOM0 = "Domain-0                                     0   384     2     r-----      50.1"
XL_TINY = "tiny                                         1    96     1     -b----      10.1"
HEADER = ("      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS NETTX(k) NETRX(k) VBDS"
          "   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID")  # fmt: skip
DOM0 = ("  Domain-0 -----r         50    0.0     393216   18.8   no limit       n/a     2    0        0        0    0"
        "        0        0        0          0          0    0")  # fmt: skip
TINY = ("      tiny --b---         10    0.0      98304    4.7      99328       4.7     1    1       12       11    1"
        "        0      127       22      12446        456    0")  # fmt: skip
TINY_VALUES = {"cpu_seconds": 10.1, "memory": 96, "network_sent": 11 * 1024, "network_received": 12 * 1024,
               "disk_read": 12446 * 512, "disk_written": 456 * 512, "disk_reads": 127, "disk_writes": 22}  # fmt: skip

# Whatever a line may hold, odd blanks and separators of other alphabets included.
NAMES = (
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=30)
    .map(lambda name: name.strip(" \t"))
    .filter(lambda name: name and name != xentop.DESTROYED)
)


def print_reading(xl: Sequence[str], top: Sequence[str], clock: str = "1700000000.250000000") -> str:
    return "\n---\n".join([clock, "\n".join([XL_HEADER, *xl]), "\n".join([HEADER, *top])]) + "\n"


GOOD = print_reading([XL_DOM0, XL_TINY], [DOM0, TINY])


class FakeRemote:
    """A host that answers with one text after the other."""

    name = HOST

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.commands: list[Sequence[str]] = []

    def run(self, argv: Sequence[str]) -> Answer:
        self.commands.append(argv)
        return Answer(0, self.answers.pop(0), "")


def as_remote(fake: object) -> Remote:
    return cast("Remote", fake)


def pick(values: Reading, domain: str) -> dict[str, float]:
    return {metric: number for (name, metric), number in values.values.items() if name == domain}


def test_what_xen_4_17_prints_is_read() -> None:
    reading = parse_reading(GOOD, HOST)
    assert reading.time == 1700000000.25
    assert pick(reading, "tiny") == TINY_VALUES
    assert pick(reading, "Domain-0") == {"cpu_seconds": 50.1, "memory": 384}


def test_columns_are_found_by_their_headings() -> None:
    xl = XL_HEADER.replace("State\tTime(s)", "State\tTime(s) Security")
    top = HEADER.replace("NETS NETTX(k) NETRX(k)", "NETRX(k) FUTURE NETTX(k) NETS")
    row = TINY.replace("1       12       11    1", "11   what  12   1    1")
    text = f"1.0\n---\n{xl}\n{XL_TINY}    system_u\n---\n{top}\n{row}"
    assert pick(parse_reading(text, HOST), "tiny") == TINY_VALUES


@given(NAMES)
def test_any_name_is_read(name: str) -> None:
    # As printf's %-40s and %*s place it.
    reading = parse_reading(
        print_reading([XL_DOM0, XL_TINY.replace("tiny", name)], [DOM0, TINY.replace("tiny", name)]), HOST
    )
    assert pick(reading, name) == (TINY_VALUES if name != "Domain-0" else pick(reading, name))


@pytest.mark.parametrize("name", ["web 1 2 3 r----- 4.0", "a --b--- 10", "no limit", "NAME", "Name", "--", "é\u2028ü"])
def test_a_name_that_looks_like_the_table_is_read(name: str) -> None:
    rows = [XL_TINY.replace("tiny", name)], [DOM0.replace("Domain-0", name)]
    assert pick(parse_reading(print_reading(*rows), HOST), name) == {"cpu_seconds": 10.1, "memory": 384}


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 50), st.integers(0, 1 << 40))
def test_large_numbers_widen_their_columns_and_are_read(kib: int, sectors: int, tenths: int) -> None:
    row = TINY.replace("12446", str(sectors)).replace("       11 ", f"       {kib} ")
    seconds = f"{tenths // 10}.{tenths % 10}"
    values = pick(parse_reading(print_reading([XL_TINY.replace("10.1", seconds)], [row]), HOST), "tiny")
    assert values["disk_read"] == sectors * 512
    assert values["network_sent"] == kib * 1024
    assert values["cpu_seconds"] == float(seconds)


def test_what_xentop_could_not_read_is_left_out() -> None:
    row = TINY.replace("0      127       22      12446        456", "-        -        -          -          -")
    kept = {name: number for name, number in TINY_VALUES.items() if not name.startswith("disk")}
    assert pick(parse_reading(print_reading([XL_TINY], [row]), HOST), "tiny") == kept


def test_a_domain_that_comes_or_goes_between_the_two_programs_has_what_was_read() -> None:
    come = parse_reading(print_reading([XL_DOM0], [DOM0, TINY]), HOST)
    gone = parse_reading(print_reading([XL_DOM0, XL_TINY], [DOM0]), HOST)
    assert pick(come, "tiny").keys() == TINY_VALUES.keys() - {"cpu_seconds"}
    assert pick(gone, "tiny") == {"cpu_seconds": 10.1}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_of_one_name_the_living_counts(order: int) -> None:
    xl = [XL_TINY.replace("-b----", "--ps-d").replace("10.1", "99.9"), XL_TINY][::order]
    top = [TINY.replace("--b---", "ds--p-").replace("127", "999"), TINY][::order]
    assert pick(parse_reading(print_reading(xl, top), HOST), "tiny") == TINY_VALUES


def test_a_domain_without_a_name_is_being_destroyed() -> None:
    destroyed = XL_TINY.replace("tiny  ", "(null)")
    assert {name for name, _ in parse_reading(print_reading([destroyed], [DOM0]), HOST).values} == {"Domain-0"}


@pytest.mark.parametrize(
    ("text", "place", "fact"),
    [
        ("", f"{HOST}: date +%s.%N", "prints '' instead of seconds"),
        (GOOD.replace(".250000000", ".N"), f"{HOST}: date +%s.%N", "prints '1700000000.N' instead of seconds"),
        ("1.0\n---\n" + XL_HEADER, f"{HOST}: xl list", "is not followed by xentop's table"),
        ("1.0\n---\n\n---\n" + HEADER, f"{HOST}: xl list", "its header lacks STATE, Time(s): there is none"),
        (GOOD.replace("NETTX(k)", "NETTX(m)"), f"{HOST}: xentop -b -f -i 1", "lacks NETTX(k): NAME STATE"),
        (GOOD.replace("NAME", "DOMAIN"), f"{HOST}: xentop -b -f -i 1", "lacks the name: DOMAIN STATE"),
        (GOOD.replace("456    0", "456"), f"{HOST}: xentop -b -f -i 1", "line 3 does not fit the header: '      tiny"),
        (GOOD.replace("12446", "12e46"), f"{HOST}: xentop -b -f -i 1", "VBD_RSECT is '12e46', not a number: tiny"),
        (GOOD.replace("10.1", "-10.1"), f"{HOST}: xl list", "Time(s) is '-10.1', not a number: tiny 1 96"),
    ],
)
def test_what_is_not_understood_is_named(text: str, place: str, fact: str) -> None:
    with pytest.raises(HostError) as caught:
        parse_reading(text, HOST)
    assert caught.value.place == place
    assert fact in caught.value.fact
    assert f"run `{place.partition(': ')[2]}` there" in caught.value.next_step


@given(st.data())
def test_a_cut_or_garbled_answer_is_read_or_refused_but_never_crashes(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(begin, len(GOOD)))
    text = GOOD[:begin] + data.draw(st.text(max_size=5)) + GOOD[end:]
    with suppress(HostError):
        assert parse_reading(text, HOST).time > 0


def find(samples: list[Sample], domain: str, metric: str) -> Sample:
    (found,) = [sample for sample in samples if (sample.labels["domain"], sample.metric) == (domain, metric)]
    return found


def test_readings_become_one_sample_per_domain_and_metric() -> None:
    later = GOOD.replace("1700000000.25", "1700000020.25").replace("10.1", "29.6").replace("456 ", "856 ")
    samples = make_samples([parse_reading(GOOD, HOST), parse_reading(later, HOST)], HOST)
    cpu = find(samples, "tiny", "cpu_seconds")
    assert cpu == Sample("cpu_seconds", "s", {"domain": "tiny", "host": HOST}, (1700000000.25, 1700000020.25),
                         (10.1, 29.6))  # fmt: skip
    assert cpu.rate() == pytest.approx(0.975)
    assert find(samples, "tiny", "disk_written").rate() == pytest.approx(400 * 512 / 20)
    assert [sample.metric for sample in samples if sample.labels["domain"] == "tiny"] == list(xentop.UNITS)
    assert [sample.unit for sample in samples] == [xentop.UNITS[sample.metric] for sample in samples]


def test_a_domain_has_the_times_at_which_it_was_there() -> None:
    readings = [Reading(time, {(name, "memory"): 96.0 for name in names})
                for time, names in ((1.0, "a"), (2.0, "ab"), (3.0, "b"), (4.0, "ab"))]  # fmt: skip
    samples = make_samples(readings, HOST)
    assert find(samples, "a", "memory").times == (1.0, 2.0, 4.0)
    assert find(samples, "b", "memory").times == (2.0, 3.0, 4.0)


def test_no_readings_are_no_samples() -> None:
    assert make_samples([], HOST) == []


def test_a_clock_that_was_set_back_is_told() -> None:
    with pytest.raises(HostError, match=r"its clock went from 20\.500 to 10\.000 between two readings") as caught:
        make_samples([Reading(20.5, {}), Reading(10.0, {})], HOST)
    assert caught.value.place == HOST
    assert caught.value.next_step


def test_one_command_asks_for_time_and_tables() -> None:
    fake = FakeRemote(GOOD)
    assert read_domains(as_remote(fake)) == parse_reading(GOOD, HOST)
    assert fake.commands == [["sh", "-c", xentop.SCRIPT]]


def test_a_host_that_cannot_is_told_what_it_lacks() -> None:
    class Broken(FakeRemote):
        def run(self, argv: Sequence[str]) -> Answer:
            raise CommandError("sh", "ended with code 127", last_lines=["sh: 4: xl: not found"])

    with pytest.raises(HostError, match="fails: sh: 4: xl: not found") as caught:
        read_domains(as_remote(Broken()))
    assert caught.value.place == HOST
    assert "boot that host into Xen" in caught.value.next_step


def test_readings_keep_their_pace_whatever_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def tick() -> Iterator[float]:
        yield from (0.0, 0.0, 3.0, 25.0)

    clock, slept = tick(), list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", slept.append)
    fake = FakeRemote(*(GOOD.replace("1700000000", str(1700000000 + seconds)) for seconds in (0, 10, 25)))
    samples = watch_domains(as_remote(fake), 3, 10)
    assert slept == [0, 7, 0]
    assert find(samples, "Domain-0", "memory").times == (1700000000.25, 1700000010.25, 1700000025.25)
