"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Function = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function, which returns a scalar.")]
Arguments = Annotated[
    str, typer.Argument(metavar="MODULE:EXAMPLE_ARGS", help="Its arguments: a tuple, or a function that returns one.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", help='Bytes beyond the arguments: "512MiB", "0.25x" of store_all, "min", "auto".'),
]
PolicyOption = Annotated[str, typer.Option("--policy", help="The policy that decides what to store.")]
Argnums = Annotated[list[int] | None, typer.Option("--argnums", help="Argument to differentiate; may be repeated.")]
HasAux = Annotated[bool, typer.Option("--has-aux", help="The function returns (scalar, aux).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write one HTML file that opens in a browser.")]
PngPath = Annotated[Path | None, typer.Option("--png", help="Draw into this .png file, or every picture into this folder.")]
MetersOption = Annotated[
    str,
    typer.Option(help="In addition to xla, separated by commas: resident (fresh processes), device; all; none."),
]


def numbers(argnums: list[int] | None) -> int | tuple[int, ...]:
    """Argnums as `value_and_grad` takes them: one number alone means one gradient, not a tuple."""
    if not argnums:
        return 0
    return argnums[0] if len(argnums) == 1 else tuple(argnums)
