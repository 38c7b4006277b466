"""The domain's configuration: golden files, quoting that holds, and checks that xl does not make."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.domains.placement import list_kinds, place_boot_files, place_disks
from xenkiln.errors import BuildError, RecipeError
from xenkiln.model.domain import Domain, Vif
from xenkiln.model.domain_check import Kind, check_config
from xenkiln.model.domain_config import parse_config, quote_text
from xenkiln.model.image import Disks, ExtraDisk, RootDisk, SwapDisk
from xenkiln.model.loader import load_image
from xenkiln.stages import domain as stage
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.layout import PROJECT, Paths

GOLDEN = Path(__file__).parents[1] / "golden/domain"
BRIDGE = (Vif(bridge="xenbr0"),)
ROOT = Disks(root=RootDisk(size_mib=96))


def make_inputs(
    name: str, domain: Domain, disks: Disks = ROOT, *, arguments: str = "", group: str | None = None
) -> stage.Inputs:
    placed = place_disks(name, disks, domain, group)
    return stage.Inputs(name, domain, f"/dev/{disks.root.device}", placed, arguments)


MORE_DISKS = Disks(
    root=RootDisk(size_mib=1024, device="xvda2"),
    swap=SwapDisk(size_mib=512, device="xvda1"),
    extra=(ExtraDisk(name="data", size_mib=2048, device="xvdb", mount="/srv"),),
)
ARTICLE = Domain(
    name="centos52",
    root="/dev/sda1 ro",
    vifs=(Vif(bridge="xenbr0"), Vif()),
    directory="/root/xen-image",
    root_file="centos-root.img",
    kernel="/boot/vmlinuz-2.6.18-128.1.6.el5xen",
    ramdisk="/root/xen-image/centos-ramdisk.img",
    on_reboot="destroy",
    on_crash="destroy",
)
CASES = {
    "centos-5.2": make_inputs("centos-5.2", ARTICLE, Disks(root=RootDisk(size_mib=1999, device="sda1"))),
    "tiny": make_inputs("tiny", Domain(memory_mib=96, vifs=BRIDGE)),
    "debian-12": make_inputs("debian-12", Domain(extra="quiet"), arguments="console=hvc0"),
    "pvh": make_inputs("pvh", Domain(type="pvh", memory_mib=1024), arguments="console=hvc0"),
    "pygrub": make_inputs("pygrub", Domain(boot="pygrub", extra="single"), arguments="console=hvc0"),
    "disks": make_inputs("disks", Domain(vcpus=2, weight=512, cap=150), MORE_DISKS),
    "volumes": make_inputs(
        "volumes",
        Domain(vifs=(Vif(mac="00:16:3e:00:00:01", bridge="xenbr1"),), on_poweroff="preserve"),
        MORE_DISKS,
        group="vg0",
    ),
}
RENDERED: list[tuple[str, Kind]] = [
    (name, kind) for name, inputs in CASES.items() for kind in list_kinds(inputs.domain)
]


@pytest.mark.parametrize(("name", "kind"), RENDERED)
def test_the_file_is_the_golden_one(name: str, kind: Kind) -> None:
    assert stage.render_config(CASES[name], kind) == (GOLDEN / f"{name}.{kind}.cfg").read_text()


def test_the_golden_files_are_all_used() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{kind}.cfg" for name, kind in RENDERED}


def test_the_files_hold_no_path_of_this_machine() -> None:
    loaded = load_image(PROJECT / "recipes/images/debian-12.yaml")
    inputs = stage.slice_recipe(loaded)
    for kind in list_kinds(inputs.domain):
        text = stage.render_config(inputs, kind)
        assert str(PROJECT) not in text
        assert "/var/lib/xen/images/debian-12/root.img" in text


def run_stage(inputs: stage.Inputs, folder: Path) -> Path:
    paths = Paths(inputs.name, folder, folder)
    paths.images.mkdir(parents=True, exist_ok=True)
    context = Context(paths, Runner(), lambda text: None)
    run_steps(stage.make_steps(inputs, paths), context)
    return paths.images


def test_a_domain_that_becomes_pvh_loses_its_xm_file(tmp_path: Path) -> None:
    inputs = CASES["tiny"]
    images = run_stage(inputs, tmp_path)
    assert {path.name for path in images.iterdir()} == {"tiny.xl.cfg", "tiny.xm.cfg"}
    run_stage(replace(inputs, domain=Domain(type="pvh")), tmp_path)
    assert [path.name for path in images.iterdir()] == ["tiny.xl.cfg"]


def test_a_kernel_elsewhere_is_the_hosts_own() -> None:
    kernel, ramdisk = place_boot_files("centos-5.2", ARTICLE)
    assert kernel.source is None
    assert (ramdisk.source, ramdisk.path) == ("initrd.img", "/root/xen-image/centos-ramdisk.img")


def test_two_files_in_one_place_are_refused(tmp_path: Path) -> None:
    inputs = make_inputs("tiny", Domain(root_file="vmlinuz"))
    problems = stage.find_problems(inputs, Paths("tiny", tmp_path, tmp_path))
    assert ["two files of the image" in str(problem) for problem in problems] == [True]


@pytest.mark.parametrize("extra", ["caf\u00e9", "a\tb", "\x1b[0m"])
def test_what_no_toolstack_reads_back_is_refused(extra: str, tmp_path: Path) -> None:
    inputs = make_inputs("tiny", Domain(extra=extra))
    with pytest.raises(BuildError, match="printable ASCII"):
        stage.render_config(inputs, "xl")
    assert stage.find_problems(inputs, Paths("tiny", tmp_path, tmp_path))


def test_a_command_line_that_xen_would_cut_is_refused() -> None:
    with pytest.raises(RecipeError, match="1023 at most"):
        stage.render_config(make_inputs("tiny", Domain(extra="x" * 1020)), "xl")


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(text=printable, mark=st.sampled_from("'\""))
def test_no_text_breaks_out_of_its_quotes(text: str, mark: str) -> None:
    quoted = quote_text(text, mark)
    assert ast.literal_eval(quoted) == text
    settings = parse_config(f"before = 1\nextra = {quoted}\nafter = [ {quoted} ]\n")
    assert [setting.value for setting in settings] == [1, text, (text,)]


@given(extra=printable.filter(bool), root=printable.filter(bool))
def test_any_command_line_arrives_whole(extra: str, root: str) -> None:
    inputs = make_inputs("tiny", Domain(extra=extra, root=root))
    for kind in list_kinds(inputs.domain):
        text = stage.render_config(inputs, kind)
        values = {setting.key: setting.value for setting in parse_config(text)}
        assert (values["extra"], values["root"]) == (extra, root)
        module: dict[str, object] = {}
        exec(compile(text, "xm", "exec"), module)
        assert (module["extra"], module["root"]) == (extra, root)


GOOD = (GOLDEN / "disks.xl.cfg").read_text()


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("memroy = 96", "memroy: unknown key; did you mean 'memory'?"),
        ("cpu_weight = 70000", "cpu_weight: 70000 is not in 1..65535"),
        ("cpu_weight = 0", "cpu_weight: 0 is not in 1..65535"),
        ("cap = 900", "cap: 900 is more than 2 vcpus can use (200 at most)"),
        ("cpu_cap = 50", "cpu_cap: unknown key"),
        ("vif = ['mac=00:16:3e:00:00']", "vif: '00:16:3e:00:00' is not the address"),
        ("vif = ['mac=01:16:3e:00:00:01']", "is not the address of one interface"),
        ("vif = ['bridge=xenbr0,speed=9']", "has the unknown key speed"),
        ("on_crash = 'explode'", "on_crash: 'explode' is not known"),
        ("type = 'hvm'", "type: 'hvm' is not known"),
        ("disk = ['format=raw, vdev=xvda1, target=/x, access=rw']", "target comes last"),
        ("disk = ['format=raw, vdev=zz1, target=/x']", "names no disk of the guest"),
        ("disk = 'file:/x,xvda,w'", "disk: is not a list"),
        ("memory = 'lots'", "memory: 'lots' is not a whole number"),
        ("memory = 010", "010 is octal"),
        ("name = 'a' + 'b'", "cannot be read from \"+ 'b'"),
        ("import os", "'import' is not the start of a setting"),
        ("name = 'a\\x41'", "is not understood alike"),
        ("vif = ['a' 'b']", "a comma is missing"),
        ("vif = ['a',", "the list has no end"),
        ("vcpus =", "is wanted"),
    ],
)
def test_what_xl_would_let_pass_is_found(line: str, fact: str) -> None:
    key = line.split()[0]
    text = "".join(f"{old}\n" for old in GOOD.splitlines() if not old.startswith(f"{key} ")) + line + "\n"
    problems = [str(problem) for problem in check_config(text, "xl", place="x.cfg")]
    assert any(fact in problem for problem in problems), problems


def test_repeated_and_missing_keys_are_found() -> None:
    facts = [str(problem) for problem in check_config("vcpus = 1\nvcpus = 2\n", "xm", place="x")]
    assert facts == [
        "x: vcpus: is set twice",
        "x: name: is missing",
        "x: memory: is missing",
        "x: kernel: is missing, and there is no bootloader to find one",
    ]


def test_a_classic_file_is_good_for_xl_too() -> None:
    text = (GOLDEN / "centos-5.2.xm.cfg").read_text()
    assert check_config(text, "xm") == check_config(text, "xl") == []
