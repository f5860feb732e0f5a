"""The commands.

Exit codes: 0; 1 if a gradient differs or a budget is broken; 2 for everything else that goes wrong: bad input, user code
that raises or exits, results that cannot be written.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ckptgrad import __version__
from ckptgrad.cli.bench import bench
from ckptgrad.cli.deliver import deliver
from ckptgrad.cli.fit import fit
from ckptgrad.cli.memory import frontier, plan, timeline
from ckptgrad.cli.options import AsJson, HtmlFile, PngPath, in_the_plural
from ckptgrad.cli.output import complain, drop, say, unwritten
from ckptgrad.cli.run import run
from ckptgrad.cli.train import train
from ckptgrad.cli.users_code import runs_users_code
from ckptgrad.cli.validate import validate
from ckptgrad.errors import CkptgradError, OptionError, ValidationError
from ckptgrad.results.coverage import CoverageTable
from ckptgrad.rules.coverage import MISSING, coverage
from ckptgrad.training.launched import failing_at_once


class _Group(TyperGroup):
    """Commands that end with one readable message and an exit code when ckptgrad raises an error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValidationError as error:
            complain(str(error))
            raise typer.Exit(1) from None
        except CkptgradError as error:
            complain(str(error))
            raise typer.Exit(2) from None
        except OSError as error:
            if sys.stdout is not None and error.filename is None:
                drop(sys.stdout)
            complain(str(unwritten(str(error.filename or "to standard output"), error)))
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    context_settings={"token_normalize_func": in_the_plural},
    help="Gradients of JAX functions within a memory budget: planned, certified, cross-checked.",
)


def rules(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only those with this in their names.")
    ] = None,
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
) -> None:
    """List JAX's primitives: differentiated, without a derivative, or refused and why."""
    rows = [row for row in coverage() if not names or any(name in row.primitive for name in names)]
    if not rows:
        raise OptionError(f"no primitive has {' or '.join(map(repr, names or ()))} in its name")
    deliver("Rules", {"Primitives": CoverageTable(tuple(rows))}, as_json, html, png)
    if any(row.status == MISSING for row in rows):
        raise typer.Exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"ckptgrad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _command in (plan, timeline, frontier, validate, fit):
    app.command()(runs_users_code(_command))
for _command in (run, train, bench, rules):
    app.command()(_command)


def main() -> None:
    """The entry point."""
    with failing_at_once():
        app()
