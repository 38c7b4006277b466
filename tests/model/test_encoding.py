"""What a rebuild key is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.model.encoding import encode_value


def test_a_slice_becomes_plain_json() -> None:
    assert encode_value((Path("/a"), {"b": [1, None]})) == ["/a", {"b": [1, None]}]


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes"])
def test_what_has_no_fixed_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="rebuild key"):
        encode_value([value])
