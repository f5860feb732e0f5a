"""Parts of a report as plain text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType

WIDTH = 110


def plain_console(**options: Any) -> Console:
    """A console that shows text as it is: square brackets and colons in the user's names are not markup."""
    return Console(markup=False, emoji=False, **options)


def to_text(parts: Sequence[RenderableType], width: int = WIDTH) -> str:
    """Parts that rich can show, separated by empty lines, without colours or trailing blanks."""
    stream = io.StringIO()
    console = plain_console(file=stream, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    for k, part in enumerate(parts):
        if k:
            console.print()
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())
