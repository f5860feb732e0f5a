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
from ckptgrad.scripts.planned import PlannedGradients

INTERRUPTED_EXIT = 130


@asks(value_and_grad, without=("argnums", "has_aux", "target", "runtime"))
def run(
    asked: Asked,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT [-- ARGUMENTS]", help="The script, and after -- what it is given."),
    ] = None,
    module: Annotated[str | None, typer.Option("-m", metavar="MODULE", help="Run a module instead of a script.")] = None,
    as_json: AsJson = False,
    html: HtmlFile = None,
) -> None:
    """Run a script with jax.grad, jax.value_and_grad and Flax NNX's planned within a budget, and report each.

    Inside the script's own jit, peaks are predicted. What cannot be planned is left to JAX, and reported. The exit code is
    the script's; 2 for a budget that is too small.
    """
    words = list(words or ())
    if module is None and (not words or not Path(words[0]).is_file()):
        raise OptionError(f"there is no script {words[0]!r}" if words else "name a script, or a module by -m")
    script = module or words.pop(0)
    planned = PlannedGradients(asked)
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(results_alone())
        code = _exit_code(script, module is not None, words, planned)
        deliver(f"Gradients of {script}", {"Gradients": ScriptRun(script, asked["budget"], planned.calls)}, as_json, html)
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
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    except BudgetError as error:
        complain(str(error))
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
