"""Parts of a report as plain text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, RenderableType

WIDTH = 110


def to_text(parts: Sequence[RenderableType], width: int = WIDTH) -> str:
    """Parts that rich can show, without colours or trailing blanks, an empty line between them."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    for k, part in enumerate(parts):
        if k:
            console.print()
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())
