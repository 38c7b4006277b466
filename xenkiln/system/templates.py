"""jinja2 with one setting: a name that is not given is an error, never an empty string."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xenkiln.errors import BuildError

TEMPLATES = Path(__file__).parents[2] / "templates"
MARKS = ("{{", "{%", "{#")
"""What begins an expression, a statement and a comment: a text without any of them is no template."""
OWN_FILE = "<template>"
"""As jinja2 names a template's text in a traceback."""


def render_template(name: str, values: Mapping[str, object]) -> str:
    """Render templates/NAME."""
    return render_text((TEMPLATES / name).read_text(encoding="utf-8"), values, place=f"templates/{name}")


def render_text(
    text: str, values: Mapping[str, object], *, place: str, variables: str = "configure.variables",
    line_end: Literal["\n", "\r\n"] = "\n",
) -> str:  # fmt: skip
    """Render a template's text; `place` and the line in it are named in errors.

    `variables` is the field of the recipe where the user gives names, `line_end` what every line of the template
    ends in afterwards. In jinja2's sandbox: a recipe's template may only make text, not reach into this program,
    which may run as root. Raises BuildError for whatever its expressions do wrong.
    """
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
        newline_sequence=line_end,
        autoescape=False,  # configuration files, not HTML
    )  # fmt: skip
    try:
        return environment.from_string(text).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise BuildError(f"not a jinja2 template: {error.message}", place=f"{place}:{error.lineno}") from error
    except jinja2.UndefinedError as error:
        raise BuildError(
            f"{error.message}; known: {', '.join(sorted(values))}",
            place=_name_line(place, error),
            next_step=f"give it under {variables}",
        ) from error
    except Exception as error:  # a template's expressions can raise anything
        raise BuildError(f"the template fails: {error}", place=_name_line(place, error)) from error


def _name_line(place: str, error: Exception) -> str:
    """The place with the line of the template that was reached."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == OWN_FILE]
    return f"{place}:{lines[-1]}" if lines else place
