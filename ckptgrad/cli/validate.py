"""`ckptgrad validate`: the cross-check."""

from __future__ import annotations

from typing import Annotated

import typer

from ckptgrad import validation
from ckptgrad.cli.deliver import deliver, stepping
from ckptgrad.cli.gradient_calls import load_gradient
from ckptgrad.cli.meshes import read_mesh
from ckptgrad.cli.options import Arguments, AsJson, Asked, Function, HtmlFile, MeshOption, MetersOption, PngPath, asks
from ckptgrad.errors import ValidationError
from ckptgrad.meters.meter import get_meters
from ckptgrad.planning.policy import get_policy
from ckptgrad.results.shown import Shown


@asks(validation.validate)
def validate(
    function: Function,
    arguments: Arguments,
    asked: Asked,
    mesh: MeshOption = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", help="A policy to compare; may be repeated.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of timing.")] = 5,
    meters: MetersOption = "resident",
    locate: Annotated[bool, typer.Option(help="Find the stage and line where a gradient goes wrong.")] = False,
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
) -> None:
    """Compare gradient, peak memory and time with jax.grad and jax.checkpoint.

    Exits with 1 if a gradient differs or a certified peak breaks the budget.
    """
    for name in policy or ():
        get_policy(name)
    get_meters(meters)
    fun, args, asked = load_gradient(function, arguments, read_mesh(mesh, asked["target"]), asked)
    title = f"Validation of {function}"
    try:
        with stepping("validating") as on_progress:
            table = validation.validate(
                fun,
                *args,
                policies=policy,
                repeats=repeats,
                meters=meters,
                locate=locate,
                on_progress=on_progress,
                **asked,
            )
    except ValidationError as error:
        if isinstance(error.validation, Shown):
            deliver(title, {"Validation": error.validation}, as_json, html, png)
        raise
    deliver(title, {"Validation": table}, as_json, html, png)
