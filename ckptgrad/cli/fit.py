"""`ckptgrad fit`: a whole training step within a device's memory."""

from __future__ import annotations

from typing import Annotated

import typer

from ckptgrad.cli.deliver import deliver, working
from ckptgrad.cli.meshes import read_mesh
from ckptgrad.cli.options import Arguments, AsJson, Asked, HtmlFile, MeshOption, asks
from ckptgrad.cli.users_code import load_call
from ckptgrad.doors.fit import fit as fit_step
from ckptgrad.errors import OptionError


@asks(fit_step, without=("target",))
def fit(
    function: Annotated[str, typer.Argument(metavar="MODULE:STEP", help="The training step.")],
    arguments: Arguments,
    asked: Asked,
    memory: Annotated[
        str, typer.Option(help='Bytes of a device for all of it: "16GiB"; "auto": what it has free.')
    ] = "auto",
    target: Annotated[str | None, typer.Option(help="What is compiled for, if not what is attached.")] = None,
    donate: Annotated[str | None, typer.Option(help="Arguments that the step may write over: 0 or 0,1")] = None,
    mesh: MeshOption = None,
    as_json: AsJson = False,
    html: HtmlFile = None,
) -> None:
    """Compile a step whose gradients have budget="fit" within a device's memory, and show what takes it; runs nothing.

    Policy, costs and what may be saved are for those of these gradients that do not say it themselves.
    """
    step, args = load_call(function, arguments, read_mesh(mesh, target))
    with working("planning and compiling"):
        fitted = fit_step(step, *args, memory=memory, target=target, donate_argnums=_positions(donate), **asked)
    deliver(f"Step {function}", {"Memory": fitted.certificate}, as_json, html)


def _positions(text: str | None) -> tuple[int, ...] | None:
    """The positions that `--donate` names.

    Raises:
        OptionError: it cannot be read.
    """
    try:
        return None if text is None else tuple(map(int, text.split(",")))
    except ValueError:
        raise OptionError(f"--donate {text}: write positions of arguments, separated by commas, as in 0,1") from None
