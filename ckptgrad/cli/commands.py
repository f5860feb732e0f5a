"""The commands.

Exit codes: 0, 1 where a gradient differs or a budget is broken, 2 for bad input.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from ckptgrad import api, validation
from ckptgrad.budget import check_budget, format_bytes
from ckptgrad.cli.bench import bench
from ckptgrad.cli.targets import load_call
from ckptgrad.errors import CkptgradError, ValidationError
from ckptgrad.planning.policy import get_policy
from ckptgrad.report.tables import coverage_parts
from ckptgrad.report.text import to_text
from ckptgrad.rules.coverage import MISSING, coverage
from ckptgrad.training.data import read_text
from ckptgrad.training.job import Job, Training, prepare
from ckptgrad.training.model import Shape

SAMPLE_BYTES = 200
PROMPT = b"The "


class _Group(TyperGroup):
    """Commands whose ckptgrad errors end in one readable message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValidationError as error:
            typer.echo(f"ckptgrad: {error}", err=True)
            raise typer.Exit(1) from None
        except CkptgradError as error:
            typer.echo(f"ckptgrad: {error}", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    help="Gradients of JAX functions within a memory budget: planned, certified, cross-checked.",
)
app.command()(bench)

Function = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function, which returns a scalar.")]
Arguments = Annotated[
    str, typer.Argument(metavar="MODULE:EXAMPLE_ARGS", help="Its arguments: a tuple, or a function that returns one.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", help='Bytes beyond the arguments: "512MiB", "0.25x" of store_all, "min", "auto".'),
]
PolicyOption = Annotated[str, typer.Option("--policy", help="Who decides what to store.")]
Argnums = Annotated[list[int] | None, typer.Option("--argnums", help="Argument to differentiate; may be repeated.")]
HasAux = Annotated[bool, typer.Option("--has-aux", help="The function returns (scalar, aux).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def plan(
    function: Function,
    arguments: Arguments,
    budget: BudgetOption = None,
    policy: PolicyOption = "optimal",
    argnums: Argnums = None,
    has_aux: HasAux = False,
    as_json: AsJson = False,
) -> None:
    """Show what would be stored and recomputed, and the predicted peak and time."""
    api.check_options(budget, policy, "compiled")
    fun, args = load_call(function, arguments)
    made = api.plan(fun, *args, argnums=_argnums(argnums), has_aux=has_aux, budget=budget, policy=policy)
    _show(made, as_json)


@app.command()
def validate(
    function: Function,
    arguments: Arguments,
    budget: BudgetOption = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", help="A policy to compare; may be repeated.")] = None,
    argnums: Argnums = None,
    has_aux: HasAux = False,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of timing.")] = 5,
    resident: Annotated[bool, typer.Option(help="Measure resident memory too, in fresh processes.")] = True,
    as_json: AsJson = False,
) -> None:
    """Compare gradient, peak memory and time with jax.grad and jax.checkpoint."""
    check_budget(budget)
    for name in policy or ():
        get_policy(name)
    fun, args = load_call(function, arguments)
    try:
        table = validation.validate(
            fun,
            *args,
            budget=budget,
            policies=policy,
            argnums=_argnums(argnums),
            has_aux=has_aux,
            repeats=repeats,
            resident=resident,
        )
    except ValidationError as error:
        _show(error.validation, as_json)
        raise
    _show(table, as_json)


@app.command()
def train(
    depth: Annotated[int, typer.Option(min=1, help="Transformer blocks.")] = 8,
    width: Annotated[int, typer.Option(min=1, help="Features of the residual stream.")] = 128,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads; divides the width.")] = 4,
    context: Annotated[int, typer.Option(min=1, help="Bytes that the model sees.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Windows of text a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps.")] = 150,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Learning rate at its highest.")] = 2e-3,
    text: Annotated[Path | None, typer.Option(help="A file to train on, instead of Python's own documentation.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Bytes beyond the arguments; by default a quarter of jax.grad's temporaries, and outputs."),
    ] = None,
    policy: PolicyOption = "optimal",
    seed: Annotated[int, typer.Option(min=0, help="Of parameters, data and sample.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of timing in the validation.")] = 3,
    resident: Annotated[bool, typer.Option(help="Measure resident memory too, in fresh processes.")] = True,
    as_json: AsJson = False,
) -> None:
    """Train a deep byte-level transformer on real text under a memory budget, then validate it."""
    api.check_options(budget, policy, "compiled")
    shape = Shape(depth, width, heads, context)
    job = Job(shape, read_text(text), batch, steps, budget, policy, learning_rate, seed)
    console = Console(stderr=as_json, soft_wrap=True)
    with console.status("compiling jax.grad's program and ckptgrad's"):
        training = prepare(job)
    console.print(_memory_lines(training), highlight=False)
    _run(training, console)
    first, last = training.losses[0], training.losses[-1]
    console.print(f"loss {first:.3f} -> {last:.3f} nats a byte in {steps} steps\n", highlight=False)
    with console.status("validating against jax.grad and jax.checkpoint"):
        table = training.validate(repeats, resident)
    sample = training.sample(SAMPLE_BYTES, PROMPT)
    if as_json:
        summary = {
            "losses": training.losses,
            "plan": training.gradient.plan.to_dict(),
            "certified_peak_bytes": training.gradient.peak_bytes,
            "validation": table.to_dict(),
            "sample": sample,
        }
        typer.echo(json.dumps(summary, indent=2))
        return
    typer.echo(f"{table}\n\nsampled: {sample}")


def _memory_lines(training: Training) -> str:
    """What jax.grad would hold, the budget, and what is certified."""
    gradient, reference, plan_ = training.gradient, training.reference, training.gradient.plan
    share = gradient.temporary_bytes / reference.temporary_bytes if reference.temporary_bytes else 1.0
    budget = "none" if plan_.budget is None else format_bytes(plan_.budget)
    return (
        f"jax.grad   {format_bytes(reference.peak_bytes)} beyond the arguments, of them "
        f"{format_bytes(reference.temporary_bytes)} temporaries\n"
        f"budget     {budget}\n"
        f"certified  {format_bytes(gradient.peak_bytes)}, of them {format_bytes(gradient.temporary_bytes)} temporaries "
        f"({share:.2f} of jax.grad's)\n"
        f"plan       {len(plan_.program.stages)} stages, {plan_.simulation.recomputations} forwards repeated, policy "
        f"{plan_.schedule.policy}"
    )


def _run(training: Training, console: Console) -> None:
    """Train with a progress bar."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=training.job.steps, loss="-")
        training.run(lambda step, loss: progress.update(task, completed=step, loss=f"{loss:.3f}"))


@app.command()
def rules(as_json: AsJson = False) -> None:
    """List JAX's primitives: differentiated, without derivative, or refused and why."""
    rows = coverage()
    typer.echo(json.dumps([asdict(row) for row in rows], indent=2) if as_json else to_text(coverage_parts(rows)))
    if any(row.status == MISSING for row in rows):
        raise typer.Exit(1)


def _argnums(given: list[int] | None) -> int | tuple[int, ...]:
    """As `value_and_grad` takes them: one number alone means one gradient, not a tuple."""
    if not given:
        return 0
    return given[0] if len(given) == 1 else tuple(given)


def _show(result: Any, as_json: bool) -> None:
    typer.echo(json.dumps(result.to_dict(), indent=2) if as_json else str(result))


def main() -> None:
    """The entry point."""
    app()
