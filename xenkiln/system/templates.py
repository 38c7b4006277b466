"""jinja2 with one setting: a name that is not given is an error, never an empty string."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xenkiln.errors import BuildError

TEMPLATES = Path(__file__).parents[2] / "templates"


def render_template(name: str, values: Mapping[str, object]) -> str:
    """Render templates/NAME."""
    return render_text((TEMPLATES / name).read_text(encoding="utf-8"), values, place=f"templates/{name}")


def render_text(text: str, values: Mapping[str, object], *, place: str) -> str:
    """Render a template's text; `place` names it in the error.

    In jinja2's sandbox: a recipe's template may only make text, not reach into this program, which
    may run as root. Raises BuildError for whatever its expressions do wrong.
    """
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
        autoescape=False,  # configuration files, not HTML
    )  # fmt: skip
    try:
        return environment.from_string(text).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise BuildError(f"not a jinja2 template: {error.message}", place=f"{place}:{error.lineno}") from error
    except jinja2.UndefinedError as error:
        raise BuildError(
            f"{error.message}; known: {', '.join(sorted(values))}",
            place=place,
            next_step="give it under configure.variables",
        ) from error
    except Exception as error:  # a template's expressions can raise anything
        raise BuildError(f"the template fails: {error}", place=place) from error
