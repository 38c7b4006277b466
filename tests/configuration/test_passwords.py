"""The root password: from a hash, a file or the environment, and its clear text nowhere else."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import pytest
from conftest import FakeToolMaker

from xenkiln import pipeline
from xenkiln.configuration import passwords
from xenkiln.configuration.passwords import resolve_password
from xenkiln.errors import BuildError
from xenkiln.model.configure import Password
from xenkiln.model.encoding import encode_value
from xenkiln.model.loader import load_image
from xenkiln.system.layout import PROJECT

CLEAR = "Tr0ub4dor & 3:päss"
HASH = "$6$saltsalt$wU0dOm0tD8ItvVBYeEjoxEDq3V8i4mzYTO4rXYjLHnPZ8BLvV0Ss0v0gBeYnRkgvPPuMcoUmVhN6NvPwU1JOk0"


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    passwords._hash_text.cache_clear()


def crypt(text: str, salt: str) -> str:
    """The C library's own crypt(3), as login(1) calls it."""
    function = ctypes.CDLL("libcrypt.so.1").crypt
    function.restype = ctypes.c_char_p
    found: bytes = function(text.encode(), salt.encode())
    return found.decode()


def test_a_hash_is_taken_as_it_is() -> None:
    assert resolve_password(Password(hash=HASH), "img") == HASH
    assert resolve_password(Password(hash="!"), "img") == "!"


def test_clear_text_from_the_environment_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT_PASSWORD", CLEAR)
    found = resolve_password(Password(environment="ROOT_PASSWORD"), "img")
    assert found.startswith("$6$")
    assert crypt(CLEAR, found) == found


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_clear_text_from_a_file_is_hashed(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(CLEAR + ending, encoding="utf-8", newline="")
    found = resolve_password(Password(file=str(path)), "img")
    assert crypt(CLEAR, found) == found


def test_the_salt_is_stable_and_each_images_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT_PASSWORD", CLEAR)
    password = Password(environment="ROOT_PASSWORD")
    first = resolve_password(password, "img")
    passwords._hash_text.cache_clear()
    assert resolve_password(password, "img") == first
    assert resolve_password(password, "other") != first


@pytest.mark.parametrize("given", [HASH, "$y$j9T$" + "a" * 22 + "$" + "b" * 43, "$2b$12$" + "c" * 53])
def test_a_hash_in_a_file_is_a_hash(given: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(given + "\n")
    assert resolve_password(Password(file=str(tmp_path / "password")), "img") == given


@pytest.mark.parametrize("text", ["$ecret", "$6$", "$6$: $", "$a$bcdefghijk", "$$$$$$$$$$$$"])
def test_a_password_that_starts_with_a_dollar_is_hashed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT_PASSWORD", text)
    found = resolve_password(Password(environment="ROOT_PASSWORD"), "img")
    assert found != text
    assert crypt(text, found) == found


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"a" * 257])
def test_a_file_without_a_password_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(BuildError) as failure:
        resolve_password(Password(file=str(path)), "img")
    assert failure.value.place == str(path)
    assert not content.strip() or content.strip().decode(errors="replace") not in str(failure.value)


def test_a_missing_file_or_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROOT_PASSWORD", raising=False)
    with pytest.raises(BuildError, match="no-such-file"):
        resolve_password(Password(file=str(tmp_path / "no-such-file")), "img")
    with pytest.raises(BuildError, match="environment variable ROOT_PASSWORD"):
        resolve_password(Password(environment="ROOT_PASSWORD"), "img")


def test_no_argument_shows_the_clear_text(monkeypatch: pytest.MonkeyPatch, fake_tool: FakeToolMaker) -> None:
    monkeypatch.setenv("ROOT_PASSWORD", CLEAR)
    tool = fake_tool("openssl", 'exec /usr/bin/openssl "$@"')
    resolve_password(Password(environment="ROOT_PASSWORD"), "img")
    assert len(tool.calls) == 1
    assert CLEAR not in " ".join(tool.calls[0])


def test_what_goes_into_keys_and_records_holds_no_clear_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROOT_PASSWORD", CLEAR)
    recipe = (PROJECT / "recipes/images/debian-12.yaml").read_text()
    path = tmp_path / "img.yaml"
    path.write_text(recipe.replace('{hash: "!"}', "{environment: ROOT_PASSWORD}"))
    slices = pipeline.slices(load_image(path))
    text = json.dumps([encode_value(inputs) for inputs in slices.values()], ensure_ascii=False)
    assert "$6$" in text, "the hash is part of what configure reads"
    assert CLEAR not in text
