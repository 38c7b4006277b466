"""User-data: what passes through, what is filled in, what is refused and where it is said to be wrong."""

from __future__ import annotations

import gzip
import random
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.clouds.userdata import BYTES_LIMIT, make_user_data, render_user_data, unpack_user_data
from xenkiln.errors import XenkilnError
from xenkiln.system.templates import MARKS

PLACE = "files/user-data.j2"
VALUES = {"name": "tiny", "hostname": "guest1", "arch": "x86_64", "cloud": "lab", "packages": ["ntp", "curl"]}
CONFIG = """#cloud-config
hostname: {{ hostname }}
packages:
{% for package in packages %}
- {{ package }}
{% endfor %}
write_files:
- path: /etc/motd
  content: !!binary aGVsbG8=
"""


def refuse(text: str | bytes, **values: object) -> str:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(XenkilnError) as caught:
        make_user_data(content, VALUES | values, PLACE)
    assert str(caught.value).startswith(PLACE)
    return str(caught.value).removeprefix(PLACE)


@given(st.text().filter(lambda text: not any(mark in text for mark in MARKS)), st.sampled_from(["", "#!/bin/sh\n"]))
def test_a_text_without_marks_is_left_as_it_is(text: str, beginning: str) -> None:
    text = beginning + (text if beginning else text.lstrip("#"))
    assert render_user_data(text, VALUES, PLACE) == text.encode()
    assert make_user_data(text.encode(), {}, PLACE) == text.encode()


@given(st.lists(st.text("abc: #'\"\\$%{}", max_size=9)), st.sampled_from(["\n", "\r\n"]))
def test_a_template_keeps_its_lines_and_the_kind_of_their_ends(lines: list[str], end: str) -> None:
    text = end.join(["text", *(line.replace("{", "").replace("}", "") for line in lines), "{{ name }}", ""])
    assert render_user_data(text, VALUES, PLACE) == text.replace("{{ name }}", "tiny").encode()


def test_a_template_is_filled_in() -> None:
    data = render_user_data(CONFIG, VALUES, PLACE)
    assert yaml.safe_load(data) == {"hostname": "guest1", "packages": ["ntp", "curl"],
                                    "write_files": [{"path": "/etc/motd", "content": b"hello"}]}  # fmt: skip
    script = "#!/bin/sh -e\necho {{ name }} on {{ cloud }}, {{ arch }}\n"
    assert render_user_data(script, VALUES, PLACE) == b"#!/bin/sh -e\necho tiny on lab, x86_64\n"


@pytest.mark.parametrize(("text", "said"), [
    ("#!/bin/sh\necho {{ nme }}\n", ":2: 'nme' is undefined; known: arch, cloud, hostname, name, packages\n  next: "),
    ("#!/bin/sh\n{% if %}\n", ":2: not a jinja2 template"),
    ("#!/bin/sh\n\n{{ 1 / 0 }}\n", ":3: the template fails"),
    ("#!/bin/sh\r\necho {{ name }}\n", ": some of its lines end in CR LF and some do not"),
    ("x\ry{{ name }}", ": some of its lines end in CR LF and some do not"),
])  # fmt: skip
def test_a_wrong_template_is_named_with_its_line(text: str, said: str) -> None:
    assert refuse(text).startswith(said)
    assert refuse("#!/bin/sh\n{{ x }}").endswith("next: give it under launch.variables")


@pytest.mark.parametrize("text", ["#!/bin/sh\r\necho\r\n", "#!/bin/sh\r\necho {{ name }}\r\n"])
def test_a_script_saved_with_cr_lf_is_pointed_out(text: str) -> None:
    assert refuse(text).startswith(":1: the #! line ends in CR LF")


@pytest.mark.parametrize(("text", "said"), [
    ("#!sh\n", ":1: the first line must name the interpreter"),
    ("#!\n", ":1: the first line must name the interpreter"),
    ("#cloud-config\n- a\n", " (as rendered):1: #cloud-config is followed by keys and values"),
    ("#cloud-config\n", " (as rendered):1: #cloud-config is followed by keys and values"),
    ("#cloud-config\na: 1\n\tb: 2\n", " (as rendered):3: a tab"),
    ("#cloud-config\na: b: c\n", ' (as rendered):2: a second ":"'),
    ("#cloud-config\na: 1\nb:\n- x: 1\n  x: 2\n", " (as rendered):5: x: the same key is on line 4"),
    ("#cloud-config\na: !secret x\n", " (as rendered):2: is not valid YAML: could not determine a constructor"),
    ("#cloud-config\na: *b\n", " (as rendered):2: is not valid YAML: found undefined alias"),
    ("#cloud-config\na: 1\n---\nb: 1\n", " (as rendered):3: is not valid YAML"),
    ("#cloud-config\na: 1\nb: \0\n", " (as rendered):3: holds a control character"),
    ("#cloud-config\na: 2024-13-45\n", " (as rendered): holds a date or number that there is not"),
    ("#cloud-config\na: " + "[" * 3000, " (as rendered): is nested too deep"),
    ("#include\nhttp://example.org/a\n\nexample.org/b\n", " (as rendered):4: is no URL"),
    ("Content-Type: multipart/mixed; boundary=x\n\n--y\n\nz\n--y--\n", ": no whole MIME multipart: "),
    ("MIME-Version: 1.0\n\nhello\n", ": no whole MIME multipart: no parts"),
    ("#cloud-confg\na: 1\n", ":1: what must be its very first characters, #cloud-config, is not quite there"),
    ("# cloud-config\na: 1\n", ":1: what must be its very first characters, #cloud-config,"),
    ("\n#cloud-config\na: 1\n", ":1: what must be its very first characters, #cloud-config,"),
    ("\ufeff#!/bin/sh\n", ":1: what must be its very first characters, #!,"),
    ("# !/bin/sh\n", ":1: what must be its very first characters, #!,"),
    ("{% set a = 1 %}\n\n#!/bin/sh\n", ":1: what must be its very first characters, #!,"),
    (b"#!/bin/sh\necho \xff\n", ":2: neither UTF-8 text nor gzip"),
    (b"\x1f\x8b\x08 no gzip", ": begins as gzip does and is none"),
    (gzip.compress(b"#!/bin/sh\n", mtime=0)[:-3], ": gzip that is cut off"),
    (gzip.compress(b"#cloud-config\n- a\n", mtime=0), " (as rendered):1: #cloud-config is followed by keys and values"),
    (gzip.compress(bytes(1 << 24) + b"x", mtime=0), ": gzip that is cut off, or more than 16777216 bytes unpacked"),
])  # fmt: skip
def test_what_would_not_be_taken_for_what_it_is_meant_to_be_is_refused(text: str | bytes, said: str) -> None:
    assert refuse(text).startswith(said)


@pytest.mark.parametrize("text", [
    "key=value\n", "# a comment\nkey=value\n", "", "#cloud-config\na: &x {b: 1}\nc:\n  <<: *x\n",
    "#cloud-config-archive\n- content: x\n", "#cloud-boothook\n#!/bin/sh\n", "#include-once\n# why\nhttps://x.example/\n",
    "#! /usr/bin/env python3\n", "## template: jinja\n#cloud-config\na: [\n", "#cloud-config\r\na: 1\r\n", "#!/bin/sh",
])  # fmt: skip
def test_what_cloud_init_takes_and_plain_text_pass(text: str) -> None:
    assert make_user_data(text.encode(), VALUES, PLACE) == text.encode()


def test_a_multipart_passes_with_either_kind_of_line_end() -> None:
    message = MIMEMultipart()
    message.attach(MIMEText("#!/bin/sh\necho {{ name }}\n", "x-shellscript"))
    message.attach(MIMEText("#cloud-config\na: 1\n", "cloud-config"))
    for text in (message.as_string(), message.as_string().replace("\n", "\r\n")):
        assert render_user_data(text, VALUES, PLACE) == text.replace("{{ name }}", "tiny").encode()


def test_the_limit_is_to_the_byte_and_compressed_data_counts_compressed() -> None:
    most = "#!/bin/sh\n#" + "é" * ((BYTES_LIMIT - 12) // 2) + "x"
    assert len(make_user_data(most.encode(), {}, PLACE)) == BYTES_LIMIT == 16384
    said = refuse(f"{most}x")
    assert said.startswith(": 16385 bytes of user-data, and a cloud takes at most 16384\n  next: ")
    assert "gzip it: then the compressed size counts" in said
    packed = gzip.compress(f"{most}{most}".encode(), mtime=0)
    assert make_user_data(packed, {}, PLACE) == packed
    assert unpack_user_data(packed, PLACE) == f"{most}{most}".encode()
    noise = random.Random(1).randbytes(BYTES_LIMIT)
    assert "bytes of user-data, and a cloud takes at most 16384" in refuse(gzip.compress(noise, mtime=0))


def test_no_value_stands_in_what_is_said() -> None:
    for text in ("#cloud-config\npassword: {{ secret }}\n\tx: 1\n", "#cloud-config\n{{ secret }}\n",
                 "#include\n{{ secret }}\n", "#!{{ secret }}\n",
                 "#cloud-config\na: {{ secret }}\na: {{ secret }}\n"):  # fmt: skip
        assert "hunter2" not in refuse(text, secret="hunter2")


@given(st.text("#cloud-config\n \t:-[]{}&*!|>'\"%@`ab1\r\0\ufeff", max_size=60))
def test_whatever_follows_is_an_error_of_ours_or_yaml(text: str) -> None:
    try:
        data = make_user_data(f"#cloud-config\n{text}".encode(), VALUES, PLACE)
    except XenkilnError:
        return
    if data.split()[0] == b"#cloud-config" and b"{" not in data:
        assert isinstance(yaml.safe_load(data), dict)
