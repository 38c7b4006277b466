"""What counts as a kernel, by its first bytes."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from xenkiln.kernels.formats import ELF, find_format_problem

BZIMAGE = bytes(0x1FE) + b"\x55\xaa\xeb\x6aHdrS\x0f\x02" + bytes(100)


@pytest.mark.parametrize("data", [BZIMAGE, ELF + bytes(100), gzip.compress(ELF + bytes(100_000), mtime=0)],
                         ids=["bzImage", "ELF", "packed ELF"])  # fmt: skip
def test_what_xen_can_start_is_taken(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(data)
    assert find_format_problem(tmp_path / "vmlinuz", "vmlinuz") is None


@pytest.mark.parametrize("data", [
    b"", b"junk\n", BZIMAGE[1:], BZIMAGE[:0x204], gzip.compress(b"junk", mtime=0), gzip.compress(ELF, mtime=0)[:12],
    b"\x1f\x8bjunk", lzma.compress(ELF), b"MZ" + bytes(5000),
])  # fmt: skip
def test_everything_else_is_refused_with_the_way_out(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(data)
    problem = find_format_problem(tmp_path / "vmlinuz", "kernels/vmlinuz")
    assert problem is not None
    assert problem.place == "kernels/vmlinuz"
    assert "the recipe's kernel section" in problem.next_step
