"""Templates: a name that is not given is an error that says where and which names there are."""

from __future__ import annotations

import pytest

from xenkiln.errors import BuildError
from xenkiln.system.templates import TEMPLATES, render_template, render_text


def test_what_is_given_is_filled_in_as_it_is() -> None:
    text = "a={{ a }} <{{ b }}>\n{% if c %}\nyes\n{% endif %}\n"
    assert render_text(text, {"a": "<&>", "b": 2, "c": True}, place="x") == "a=<&> <2>\nyes\n"


def test_a_missing_name_is_an_error_with_the_names_there_are() -> None:
    with pytest.raises(BuildError) as caught:
        render_text("\n\n{{ hostnme }}", {"hostname": "tiny", "port": 1}, place="files/motd.j2")
    assert str(caught.value) == (
        "files/motd.j2:3: 'hostnme' is undefined; known: hostname, port\n  next: give it under configure.variables"
    )
    with pytest.raises(BuildError, match=r"next: give it under launch\.variables"):
        render_text("{{ a }}", {}, place="x", variables="launch.variables")


def test_lines_end_as_they_are_told_to() -> None:
    text = "{% if a %}\r\none\r\n{% endif %}\r\n{{ a }}\n"
    assert render_text(text, {"a": "\n"}, place="x", line_end="\r\n") == "one\r\n\n\r\n"
    assert render_text(text, {"a": "\r\n"}, place="x") == "one\n\r\n\n"


def test_a_template_that_is_none_is_an_error_with_its_line() -> None:
    with pytest.raises(BuildError, match=r"files/motd\.j2:2: not a jinja2 template"):
        render_text("one\n{% if %}\n", {}, place="files/motd.j2")


@pytest.mark.parametrize(
    "text", ["{{ 1/0 }}", "{{ x.append }}{{ x.y.z }}", "{% include 'etc/passwd' %}", "{{ 'a' + 1 }}"]
)
def test_whatever_goes_wrong_in_it_names_the_template(text: str) -> None:
    with pytest.raises(BuildError, match=r"files/motd\.j2:2: "):
        render_text(f"\n{text}", {"x": {}}, place="files/motd.j2")


@pytest.mark.parametrize("text", [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch /tmp/x') }}",
])  # fmt: skip
def test_a_template_cannot_reach_this_program(text: str) -> None:
    with pytest.raises(BuildError, match=r"files/motd\.j2"):
        render_text(text, {}, place="files/motd.j2")


def test_a_template_that_never_ends_is_refused() -> None:
    with pytest.raises(BuildError, match=r"files/motd\.j2"):
        render_text("{% for n in range(10**9) %}{% endfor %}", {}, place="files/motd.j2")


def test_our_own_templates_are_found_by_name() -> None:
    assert TEMPLATES.is_dir()
    with pytest.raises(FileNotFoundError):
        render_template("no/such", {})
