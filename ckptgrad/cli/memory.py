"""`ckptgrad plan`, `ckptgrad timeline`, `ckptgrad frontier`: where the memory goes, and what a budget costs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ckptgrad.cli.deliver import deliver, working, write_text
from ckptgrad.cli.gradient_calls import load_gradient
from ckptgrad.cli.meshes import read_mesh
from ckptgrad.cli.options import Arguments, AsJson, Asked, Function, HtmlFile, MeshOption, PngPath, asks, in_a_folder
from ckptgrad.cli.output import say
from ckptgrad.doors.frontier import frontier as make_frontier
from ckptgrad.doors.plan import plan as make_plan
from ckptgrad.doors.timeline import timeline as make_timeline
from ckptgrad.meters.meter import get_meters, meters
from ckptgrad.request import taken_by
from ckptgrad.validation import jax_grad_point, jax_grad_reading


@asks(make_plan)
def plan(
    function: Function,
    arguments: Arguments,
    asked: Asked,
    mesh: MeshOption = None,
    diagram: Annotated[bool, typer.Option("--diagram", help="Also draw the schedule in letters.")] = False,
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
) -> None:
    """Show what would be stored and recomputed, and the predicted peak and time."""
    fun, args, asked = load_gradient(function, arguments, read_mesh(mesh, asked["target"], compiles=False), asked)
    with working("planning"):
        planned = make_plan(fun, *args, **asked)
    sections = {"Plan": planned, "Predicted timeline": planned.timeline(function)}
    deliver(f"Plan of {function}", sections, as_json, html, png)
    if diagram and not as_json:
        say(f"\n{planned.diagram()}")


@asks(make_timeline)
def timeline(
    function: Function,
    arguments: Arguments,
    asked: Asked,
    mesh: MeshOption = None,
    observe: Annotated[
        str,
        typer.Option(help=f"Meters, separated by commas: {', '.join(meters())}; all; none: only predict."),
    ] = "xla",
    reference: Annotated[bool, typer.Option(help="In pictures and pages, also compile jax.grad and draw its curve.")] = True,
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
    trace: Annotated[
        Path | None, typer.Option(callback=in_a_folder, help="Write trace events (JSON), which ui.perfetto.dev opens.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(callback=in_a_folder, help="Write a row of CSV for each moment.")] = None,
    csv_buffers: Annotated[
        Path | None, typer.Option(callback=in_a_folder, help="Write a row of CSV for each predicted buffer.")
    ] = None,
) -> None:
    """Show live bytes over the course of the gradient, predicted and observed, and what is alive at the peak."""
    get_meters(observe)
    fun, args, asked = load_gradient(
        function, arguments, read_mesh(mesh, asked["target"], compiles=observe != "none"), asked
    )
    with working("planning, compiling and observing"):
        course = make_timeline(fun, *args, observe=observe, **asked)
    if reference and observe != "none" and (html or png):
        with working("compiling jax.grad"):
            known = jax_grad_reading(fun, *args, **taken_by(jax_grad_reading, asked))
            course = course.beside(**{"jax.grad": known})
    deliver(f"Timeline of {function}", {"Timeline": course}, as_json, html, png)
    for path, export in (
        (trace, course.to_perfetto),
        (csv, course.to_csv),
        (csv_buffers, partial(course.to_csv, "buffers")),
    ):
        if path is not None:
            write_text(path, export())


@asks(make_frontier)
def frontier(
    function: Function,
    arguments: Arguments,
    asked: Asked,
    mesh: MeshOption = None,
    reference: Annotated[bool, typer.Option(help="Also compile jax.grad, and show where it stands.")] = True,
    as_json: AsJson = False,
    html: HtmlFile = None,
    png: PngPath = None,
) -> None:
    """Show every budget at which the optimal plan changes, with its time, and where other policies stand."""
    fun, args, asked = load_gradient(function, arguments, read_mesh(mesh, asked["target"], compiles=reference), asked)
    with working("planning for every budget"):
        curve = make_frontier(fun, *args, **asked)
    if reference:
        with working("compiling jax.grad"):
            curve = curve.beside(jax_grad_point(fun, *args, **taken_by(jax_grad_point, asked)))
    deliver(f"Frontier of {function}", {"Frontier": curve}, as_json, html, png)
