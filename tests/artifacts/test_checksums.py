"""SHA256SUMS and its signature, judged by sha256sum and gpg."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpg_agents import ended_agent
from sealing import make_context, make_paths

from xenkiln.artifacts.checksums import (
    find_key_problem,
    format_checksums,
    hash_files,
    make_signing_step,
    read_checksums,
)
from xenkiln.errors import BuildError
from xenkiln.system.execution import run_steps

KEY = "builds@example.org"


@pytest.fixture
def key_ring(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with ended_agent(tmp_path_factory.mktemp("gpg")) as home:
        monkeypatch.setenv("GNUPGHOME", str(home))
        subprocess.run(["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", KEY, "ed25519", "sign"],
                       check=True, capture_output=True)  # fmt: skip
        yield home


def test_sha256sum_accepts_what_we_write(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(5_000_001)
        stream.seek(3_000_000)
        stream.write(b"data")
    files = [tmp_path / "sparse", tmp_path / "small"]
    text = format_checksums(dict(zip(["sparse", "small"], hash_files(files), strict=True)))
    assert [line.split()[1] for line in text.splitlines()] == ["small", "sparse"]
    (tmp_path / "SHA256SUMS").write_text(text)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    assert format_checksums(read_checksums(tmp_path / "SHA256SUMS")) == text


def test_what_is_no_list_of_checksums_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    with pytest.raises(BuildError, match="not a line of sha256sum"):
        read_checksums(tmp_path / "x")


@pytest.mark.usefixtures("key_ring")
def test_a_signature_can_be_verified_and_notices_a_change(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    sums, signature = paths.images / "SHA256SUMS", paths.images / "SHA256SUMS.asc"
    sums.write_text("x\n")
    run_steps([make_signing_step(KEY, sums, signature)], make_context(paths))
    assert signature.read_text().startswith("-----BEGIN PGP SIGNATURE-----")
    verify = ["gpg", "--batch", "--verify", str(signature), str(sums)]
    subprocess.run(verify, check=True, capture_output=True)
    sums.write_text("y\n")
    assert subprocess.run(verify, capture_output=True).returncode != 0


@pytest.mark.usefixtures("key_ring")
def test_a_key_that_is_there_is_no_problem() -> None:
    assert find_key_problem(KEY) is None


def test_a_missing_key_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    with ended_agent(tmp_path):
        problem = find_key_problem("nobody@example.org")
    assert problem is not None
    assert "no secret key nobody@example.org" in str(problem)
    assert "gpg --import" in problem.next_step


def test_looking_for_a_key_leaves_nothing_in_a_home_without_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GNUPGHOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "no secret key nobody@example.org" in str(find_key_problem("nobody@example.org"))
    assert list(tmp_path.iterdir()) == []
