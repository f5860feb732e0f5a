"""`ckptgrad train`: a deep model trained under a budget, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ckptgrad.bytes import format_bytes
from ckptgrad.cli.deliver import stepping, to_json, write
from ckptgrad.cli.options import AsJson, Asked, HtmlFile, MetersOption, PngPath, asks
from ckptgrad.cli.output import say
from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.report.text import plain_console
from ckptgrad.request import Request
from ckptgrad.training.data import read_text
from ckptgrad.training.job import Job, Training, prepare
from ckptgrad.training.model import Shape

SAMPLE_BYTES = 200
PROMPT = b"The "


@asks(value_and_grad, without=("argnums", "has_aux", "target"))
def train(
    asked: Asked,
    depth: Annotated[int, typer.Option(min=1, help="Transformer blocks.")] = 8,
    width: Annotated[int, typer.Option(min=1, help="Features of the residual stream.")] = 128,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads; divides the width.")] = 4,
    context: Annotated[int, typer.Option(min=1, help="Context length, in bytes of text.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Windows of text per step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps.")] = 150,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 2e-3,
    text: Annotated[Path | None, typer.Option(help="A file to train on, instead of Python's own documentation.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the parameters, the data and the sample.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of timing in the validation.")] = 3,
    meters: MetersOption = "resident",
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
) -> None:
    """Train a deep byte-level transformer on real text under a memory budget, then validate it.

    Without --budget, the budget is a quarter of jax.grad's temporaries, plus the outputs.
    """
    shape = Shape(depth, width, heads, context)
    job = Job(shape, read_text(text), batch, steps, Request(**asked), learning_rate, seed)
    console = plain_console(stderr=as_json, soft_wrap=True)
    with console.status("compiling jax.grad's program and ckptgrad's"):
        training = prepare(job)
    console.print(_memory_lines(training), highlight=False)
    _run(training, console)
    first, last = training.losses[0], training.losses[-1]
    console.print(f"loss {first:.3f} -> {last:.3f} nats a byte in {steps} steps\n", highlight=False)
    with stepping("validating") as on_progress:
        table = training.validate(repeats, meters, on_progress)
    sample = training.sample(SAMPLE_BYTES, PROMPT)
    if as_json:
        summary = {
            "losses": training.losses,
            "plan": training.gradient.plan.to_dict(),
            "certified_peak_bytes": training.gradient.peak_bytes,
            "validation": table.to_dict(),
            "sample": sample,
        }
        say(to_json(summary))
    else:
        say(f"{table}\n\nsampled: {sample}")
    write("Training within a budget", {"Validation": table, "Plan": training.gradient.plan}, html, png)


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
        TextColumn("training", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=training.job.steps, loss="-")
        training.run(lambda step, loss: progress.update(task, completed=step, loss=f"{loss:.3f}"))
