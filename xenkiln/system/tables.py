"""Tables for people: as wide as the terminal, and whole lines where there is none."""

from __future__ import annotations

import sys
from collections.abc import Sequence

WIDE = 240
"""Without a terminal nothing is wrapped: it goes into a file or a filter."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns, or that there are none; columns that are empty are left out."""
    if not rows:
        print(f"{title}: none")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False)
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    shown = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    for number in shown:
        table.add_column(columns[number], overflow="fold")
    for row in rows:
        # Somebody else's words: no markup, no control characters.
        table.add_row(*(Text("".join(filter(str.isprintable, row[number]))) for number in shown))
    console.print(table)
