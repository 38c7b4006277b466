"""How large a bundle will be about, held against the bundle."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from xenkiln.bundle import estimate
from xenkiln.bundle.archive import lay_out_plain, lay_out_sparse
from xenkiln.bundle.estimate import estimate_bundle
from xenkiln.bundle.parts import make_parts, make_secret
from xenkiln.system.files import list_extents

MIB = 1 << 20


def make_words(count: int) -> bytes:
    chosen = random.Random(7)
    return b" ".join(b"%x" % chosen.getrandbits(20) for _ in range(count))


@pytest.mark.parametrize("is_sampled", [False, True])
@pytest.mark.parametrize("lay_out", [lay_out_plain, lay_out_sparse])
@pytest.mark.parametrize("pieces", [
    {0: make_words(700_000)}, {0: os.urandom(3 * MIB), 9 * MIB + 5: make_words(200_000)}, {MIB: b"x"}, {},
], ids=["words", "mixed", "one", "nothing"])  # fmt: skip
def test_it_is_a_tenth_off_at_the_most(
    pieces: dict[int, bytes], lay_out: type, is_sampled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        for offset, data in pieces.items():
            stream.seek(offset)
            stream.write(data)
        stream.truncate(16 * MIB)
    with image.open("rb") as stream:
        layout = lay_out("image", 16 * MIB, list(list_extents(stream.fileno(), 16 * MIB)))
    if is_sampled:
        monkeypatch.setattr(estimate, "SAMPLES", 8)
    sizes = [part.size for part in make_parts(image, layout, make_secret(), lambda *_: None).parts]
    # Zeros, headers and what fills the archive up are all that there may be beside.
    assert abs(estimate_bundle(image, layout) - sum(sizes)) < sum(sizes) / 10 + 40_000
