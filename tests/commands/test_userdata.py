"""`userdata` as the user meets it: the rendered text on stdout, nothing of it where something is wrong."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from xenkiln.commands import userdata
from xenkiln.errors import BuildError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.loader import LoadedCloud, load_image, load_recipe
from xenkiln.model.publish import Launch
from xenkiln.publishing.subject import Subject, make_subject
from xenkiln.system.layout import PROJECT


def load(folder: Path, launch: Launch) -> tuple[Subject, LoadedCloud]:
    """The shipped tiny, as if it had that section and lay in that folder."""
    subject = make_subject(load_image(PROJECT / "recipes/images/tiny.yaml"))
    return replace(subject, folder=folder, launch=launch), load_recipe(PROJECT / "recipes/clouds/lab.yaml", CloudRecipe)


def test_the_template_beside_the_recipe_is_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "#!/bin/sh\necho {{ name }} {{ hostname }} {{ arch }} {{ cloud }} {{ greeting }}"
    (tmp_path / "hello.sh.j2").write_text(text)
    userdata.run(*load(tmp_path, Launch(user_data="hello.sh.j2", variables={"greeting": "Grüße"})))
    assert capsys.readouterr().out == "#!/bin/sh\necho tiny tiny x86_64 lab Grüße"


def test_what_is_compressed_is_shown_unpacked(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "hello.gz").write_bytes(gzip.compress(b"#!/bin/sh\n: {{ x }} \xff\n"))
    userdata.run(*load(tmp_path, Launch(user_data="hello.gz")))
    assert capsysbinary.readouterr().out == b"#!/bin/sh\n: {{ x }} \xff\n"


def test_a_recipe_without_user_data_says_where_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"tiny\.yaml: has no launch\.user_data\n  next: name a template there"):
        userdata.run(*load(tmp_path, Launch()))


def test_nothing_is_printed_of_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hello.sh.j2").write_text("#!/bin/sh\necho {{ greting }}\n")
    with pytest.raises(BuildError, match=r"hello\.sh\.j2:2: 'greting' is undefined; known: arch, .*greeting"):
        userdata.run(*load(tmp_path, Launch(user_data="hello.sh.j2", variables={"greeting": "x"})))
    assert capsys.readouterr().out == ""
