"""`ckptgrad run`: a script as it is, with its gradients planned."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ckptgrad.cli.deliver import deliver
from ckptgrad.cli.options import AsJson, Asked, HtmlFile, asks
from ckptgrad.cli.output import complain, results_alone
from ckptgrad.cli.tracebacks import users_traceback
from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.errors import BudgetError, OptionError
from ckptgrad.results.script_run import ScriptRun
from ckptgrad.scripts.planned import Enough, PlannedGradients
from ckptgrad.target.named import target as named_target

INTERRUPTED_EXIT = 130


@asks(value_and_grad, without=("argnums", "has_aux", "runtime"))
def run(
    asked: Asked,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT [-- ARGUMENTS]", help="The script, and after -- what it is given."),
    ] = None,
    module: Annotated[str | None, typer.Option("-m", metavar="MODULE", help="Run a module instead of a script.")] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Compile what is planned, for --target if named, and run none of it.")
    ] = False,
    programs: Annotated[
        int, typer.Option(min=1, help="Of a dry run: how many programs or gradients to compile before the script ends.")
    ] = 1,
    as_json: AsJson = False,
    html: HtmlFile = None,
) -> None:
    """Run a script with the gradients of JAX, Flax NNX and Equinox planned within a budget, and report each.

    Peaks are predicted; a program of the script's own jit is certified as a whole. What cannot be planned is left to JAX,
    and reported; the page shows what each holds, and when. The exit code is the script's; 2 for a budget that is too small.
    A gradient that no plan keeps within a share of what it needs ("0.5x") gets its smallest plan, and the report says so.

    With --dry, each program with a gradient is compiled from the types of its arguments, and the script goes on with JAX's
    own gradients, until as many are compiled as --programs says: with one, nothing heavy runs here.

    There is no --mesh: a script makes its own of the devices that it finds, eight of the CPU's with
    XLA_FLAGS=--xla_force_host_platform_device_count=8; a dry run for --target h100:8 lays what lies on them over the
    target's. Inside its own jit nothing says how a gradient's arguments lie: ask for a share there ("0.5x"), not for bytes.
    """
    words = list(words or ())
    if module is None and (not words or not Path(words[0]).is_file()):
        raise OptionError(f"there is no script {words[0]!r}" if words else "name a script, or a module by -m")
    if asked["target"] is not None and not dry:
        raise OptionError("--target is compiled for and run by nothing here: give --dry too, or leave it out")
    script = module or words.pop(0)
    planned = PlannedGradients(asked, programs if dry else None)
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(results_alone())
        code = _exit_code(script, module is not None, words, planned)
        target = None if asked["target"] is None else str(named_target(asked["target"]))
        result = ScriptRun(script, asked["budget"], planned.calls, dry, target)
        courses = {f"Gradient of {name}": plan.timeline(name) for name, plan in planned.plans.items()} if html else {}
        deliver(f"Gradients of {script}", {"Gradients": result, **courses}, as_json, html)
    raise typer.Exit(code)


def _exit_code(script: str, is_module: bool, arguments: list[str], planned: PlannedGradients) -> int:
    """Run it; its exit code, as Python's would be."""
    argv, path = sys.argv[:], sys.path[:]
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.getcwd() if is_module else str(Path(script).resolve().parent))
    try:
        with planned.in_place():
            if is_module:
                runpy.run_module(script, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        return _code(error.code)
    except Enough:
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    except BudgetError as error:
        complain("\n".join([str(error), *getattr(error, "__notes__", ())]))
        return 2
    except Exception as error:
        typer.echo(users_traceback(error) or traceback.format_exc(), err=True, nl=False)
        return 1
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


def _code(given: Any) -> int:
    if given is None or isinstance(given, int):
        return given or 0
    typer.echo(given, err=True)
    return 1
