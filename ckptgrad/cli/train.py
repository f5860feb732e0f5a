"""`ckptgrad train`: a deep model trained under a budget, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ckptgrad.bytes import format_bytes
from ckptgrad.cli.deliver import stepping, to_json, write
from ckptgrad.cli.options import METERS_HELP, AsJson, Asked, HtmlFile, PngPath, asks
from ckptgrad.cli.output import results, results_alone, say
from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.errors import OptionError
from ckptgrad.report.text import plain_console
from ckptgrad.request import Request
from ckptgrad.results.training_run import TrainingRun
from ckptgrad.training.data import read_text
from ckptgrad.training.job import Job, Training, prepare
from ckptgrad.training.launched import is_launched, join, launch
from ckptgrad.training.model import Shape
from ckptgrad.validation import Validation

SAMPLE_BYTES = 200
PROMPT = b"The "


@asks(value_and_grad, without=("argnums", "has_aux", "target"))
def train(
    invoked: typer.Context,
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
    processes: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that train together, each with its part of every batch.")
    ] = 1,
    save: Annotated[
        Path | None, typer.Option(help="Keep the state of the training in this file; go on from it if it is there.")
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps after which the state is written.")] = 25,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of timing in the validation.")] = 3,
    meters: Annotated[
        str | None, typer.Option(help=f"{METERS_HELP} By default resident, of several processes none.")
    ] = None,
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
) -> None:
    """Train a deep byte-level transformer on real text under a memory budget, then validate it.

    Without --budget, the budget is a quarter of jax.grad's temporaries, plus the outputs. With --processes bytes are those
    of one device; the first process reports. Other launchers start each process with JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID set instead.
    """
    if processes > 1 and not is_launched():
        raise typer.Exit(launch([sys.executable, "-m", "ckptgrad.cli", "train", *_as_typed(invoked)], processes))
    # What joins processes writes to standard output.
    with results_alone():
        join()
        shape = Shape(depth, width, heads, context)
        job = Job(shape, read_text(text), batch, steps, Request(**asked), learning_rate, seed, save, save_every)
        console = plain_console(soft_wrap=True, **({"stderr": True} if as_json else {"file": results()}))
        with console.status("compiling jax.grad's program and ckptgrad's"):
            training = prepare(job)
        console.print(_memory_lines(training), highlight=False)
        _run(training, console)
        first, last = training.losses[0], training.losses[-1]
        console.print(f"loss {first:.3f} -> {last:.3f} nats a byte in {steps} steps\n", highlight=False)
        with stepping("validating") as on_progress:
            table = training.validate(repeats, _meters(meters, training.data.processes.several), on_progress)
        if training.data.processes.is_first:
            _deliver(training, table, as_json, html, png)


def _as_typed(invoked: typer.Context) -> list[str]:
    """The options of this command as they were typed."""
    words: list[str] = []
    for option in invoked.command.params:
        source = invoked.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE":
            value = invoked.params[option.name or ""]
            words += [option.opts[0], *([] if isinstance(value, bool) else [str(value)])]
    return words


def _meters(asked: str | None, several: bool) -> str:
    """The meters of the validation.

    Raises:
        OptionError: they are named, and observe one process where there are several.
    """
    if several and asked not in (None, "none"):
        raise OptionError(f"--meters {asked} observes one process, and several train; leave it out")
    return "none" if several else asked or "resident"


def _deliver(training: Training, table: Validation, as_json: bool, html: Path | None, png: Path | None) -> None:
    run = TrainingRun(tuple(training.losses), training.sample(SAMPLE_BYTES, PROMPT))
    if as_json:
        summary = {
            "losses": training.losses,
            "plan": training.gradient.plan.to_dict(),
            "certified_peak_bytes": training.gradient.peak_bytes,
            "validation": table.to_dict(),
            "sample": run.sample,
        }
        say(to_json(summary))
    else:
        say(f"{table}\n\nsampled: {run.sample}")
    sections = {"Training": run, "Validation": table, "Plan": training.gradient.plan}
    write("Training within a budget", sections, html, png)


def _memory_lines(training: Training) -> str:
    """What jax.grad would hold, the budget, and what is certified."""
    gradient, reference, plan_ = training.gradient, training.reference, training.gradient.plan
    share = gradient.temporary_bytes / reference.temporary_bytes if reference.temporary_bytes else 1.0
    # The plan's own is what was aimed at, which may be more: a staged gradient holds not all gradients from the start.
    budget = "none" if gradient.budget is None else format_bytes(gradient.budget)
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
