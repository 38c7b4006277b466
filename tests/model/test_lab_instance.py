"""spec.json of an instance: what is taken, and what every mistake in it is called."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenkiln.errors import RecipeError
from xenkiln.model.lab_instance import parse_instance

SPEC: dict[str, Any] = {
    "name": "i-2ECA052C", "memory_mib": 128, "vcpus": 1, "kernel": "/images/vmlinuz", "ramdisk": "/images/initrd.img",
    "root": "/images/root.img", "root_device": "xvda1", "arguments": "root=/dev/xvda1 ro console=hvc0",
    "public_key": "", "meta_data": {"meta-data/instance-id": "i-2ECA052C", "user-data": "#!/bin/sh\n"},
}  # fmt: skip
LEAST = {key: SPEC[key] for key in ("name", "memory_mib", "vcpus", "kernel", "root", "root_device")}


def list_faults(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_instance(text, "spec.json")
    return [str(problem) for problem in caught.value.problems]


def test_a_spec_is_read_as_it_is_written() -> None:
    spec = parse_instance(json.dumps(SPEC), "spec.json")
    assert spec.model_dump() == SPEC


def test_what_may_be_left_out_is_empty() -> None:
    spec = parse_instance(json.dumps(LEAST), "spec.json")
    assert (spec.ramdisk, spec.arguments, spec.public_key, spec.meta_data) == (None, "", "", {})
    assert parse_instance(json.dumps({**LEAST, "ramdisk": None}), "spec.json") == spec


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "../x"}, "spec.json: name: '../x' does not fit; wanted: an instance's name, such as i-2ECA052C"),
        ({"name": "-x"}, "spec.json: name: '-x' does not fit; wanted: an instance's name, such as i-2ECA052C"),
        ({"memory_mib": "128"}, "spec.json: memory_mib: is text because of its quotes; write the number without them"),
        ({"memory_mib": 8}, "spec.json: memory_mib: 8 is too small: 16 at least"),
        ({"memory_mib": True}, "spec.json: memory_mib: true does not fit; wanted: a whole number"),
        ({"vcpus": 0}, "spec.json: vcpus: 0 is too small: 1 at least"),
        ({"kernel": None}, "spec.json: kernel: is empty; text is wanted, or leave the key out"),
        ({"root_device": "vda"},
         "spec.json: root_device: 'vda' does not fit; wanted: a disk or partition, such as xvda1"),
        ({"arguments": "ro\ninit=/x"}, "spec.json: arguments: must be a single line"),
        ({"ramdsik": "x"}, "spec.json: ramdsik: unknown key; did you mean 'ramdisk'?"),
        ({"meta_data": []}, "spec.json: meta_data: the value does not fit; wanted: a section of keys and values"),
    ],
)  # fmt: skip
def test_mistakes_are_named(change: dict[str, object], fault: str) -> None:
    assert list_faults(json.dumps({**SPEC, **change})) == [fault]


def test_all_that_is_missing_is_told_at_once() -> None:
    assert list_faults("{}") == [f"spec.json: {name}: is missing" for name in LEAST]


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000, '{"name": NaN}x'])
def test_what_is_no_json_is_told_of(text: str) -> None:
    (fault,) = list_faults(text)
    assert fault.startswith("spec.json: is not JSON: ")


@pytest.mark.parametrize("text", ["[]", "7", '"x"', "null"])
def test_json_of_another_kind_is_told_of(text: str) -> None:
    (fault,) = list_faults(text)
    assert fault.endswith("a section of keys and values is wanted, or leave the key out" if text == "null" else
                          "wanted: a section of keys and values")  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["", "/", "meta-data", "meta-data/", "/meta-data/x", "meta-data//x", "meta-data/../../../etc/passwd",
     "meta-data/..", "meta-data/.", "meta-data/.x", "meta-data/x/", "meta-data/x y", "meta-data/x\n", "user-data/x",
     "user_data", "../user-data", "meta-data/x\0", "2007-01-19/meta-data/x"],
)  # fmt: skip
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    (fault,) = list_faults(json.dumps({**SPEC, "meta_data": {path: "x"}}))
    assert fault.startswith(f"spec.json: meta_data: {path!r} is not meta-data/NAME")


def test_a_value_cannot_be_a_folder_too() -> None:
    told = {"meta-data/block-device-mapping/ami": "sda1", "meta-data/block-device-mapping": "not yet supported."}
    (fault,) = list_faults(json.dumps({**SPEC, "meta_data": told}))
    assert fault == ("spec.json: meta_data: 'meta-data/block-device-mapping' has a value of its own, so"
                     " 'meta-data/block-device-mapping/ami' cannot lie below it")  # fmt: skip


def test_a_value_that_may_be_secret_is_not_repeated() -> None:
    (fault,) = list_faults(json.dumps({**SPEC, "meta_data": {"user-data": 123456789}}))
    assert "123456789" not in fault
    assert fault.startswith("spec.json: meta_data.user-data: ")
    assert fault.endswith("text is wanted: put it in quotes")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=8)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*SPEC, "more"]), JSON))
def test_whatever_it_holds_is_taken_or_told_of(changes: dict[str, object]) -> None:
    try:
        spec = parse_instance(json.dumps({**SPEC, **changes}), "spec.json")
    except RecipeError as error:
        faults = error.problems
    else:
        faults = ()
        assert spec.model_dump() == {**SPEC, **changes}
    assert faults or "more" not in changes
