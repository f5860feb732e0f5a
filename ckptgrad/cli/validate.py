"""`ckptgrad validate`: the cross-check."""

from __future__ import annotations

from typing import Annotated

import typer

from ckptgrad import validation
from ckptgrad.bytes import check_budget
from ckptgrad.cli.deliver import deliver, stepping
from ckptgrad.cli.options import (
    Argnums,
    Arguments,
    AsJson,
    BudgetOption,
    Function,
    HasAux,
    HtmlFile,
    MetersOption,
    PngPath,
    numbers,
)
from ckptgrad.cli.targets import load_call
from ckptgrad.errors import ValidationError
from ckptgrad.meters.meter import get_meters
from ckptgrad.planning.policy import get_policy
from ckptgrad.results.shown import Shown


def validate(
    function: Function,
    arguments: Arguments,
    budget: BudgetOption = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", help="A policy to compare; may be repeated.")] = None,
    argnums: Argnums = None,
    has_aux: HasAux = False,
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
    check_budget(budget)
    for name in policy or ():
        get_policy(name)
    get_meters(meters)
    fun, args = load_call(function, arguments)
    title = f"Validation of {function}"
    try:
        with stepping("validating") as on_progress:
            table = validation.validate(
                fun,
                *args,
                budget=budget,
                policies=policy,
                argnums=numbers(argnums),
                has_aux=has_aux,
                repeats=repeats,
                meters=meters,
                locate=locate,
                on_progress=on_progress,
            )
    except ValidationError as error:
        if isinstance(error.validation, Shown):
            deliver(title, {"Validation": error.validation}, as_json, html, png)
        raise
    deliver(title, {"Validation": table}, as_json, html, png)
