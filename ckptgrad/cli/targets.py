"""Functions and arguments named on the command line as `module:name`."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from ckptgrad.cli.output import results_alone
from ckptgrad.errors import CkptgradError


class TargetError(CkptgradError):
    """A `module:name` that does not name anything usable."""


def on_a_target(command: Callable[..., None]) -> Callable[..., None]:
    """A command that runs a target: what the target prints is not a result; if it raises or exits, that is not a verdict."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with results_alone():
            try:
                command(*args, **kwargs)
            except (CkptgradError, typer.Exit, typer.Abort):
                raise
            except SystemExit as error:
                raise TargetError(f"the target ended the program by sys.exit({error.code!r}); nothing was checked") from None
            except Exception as error:
                traceback.print_exc()
                raise TargetError(f"while the target ran: {type(error).__name__}: {error}") from error

    return run


def load(spec: str) -> Any:
    """The object called `module:name` (both may contain dots); the current folder is searched first.

    Raises:
        TargetError: the spec is malformed, the module cannot be imported, or has no such name.
    """
    module_name, colon, name = spec.partition(":")
    if not (colon and module_name and name):
        raise TargetError(f"cannot read {spec!r}: write it as module:name, for example mymodel:loss")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise TargetError(
            f"cannot import the module {module_name!r} of {spec!r}: {type(error).__name__}: {error}; run from its "
            f"folder, or put that folder on PYTHONPATH"
        ) from error
    for part in name.split("."):
        if not hasattr(target, part):
            public = [n for n in dir(target) if not n.startswith("_")]
            raise TargetError(f"{module_name!r} has no {name!r}; it has {', '.join(public) or 'no public names'}")
        target = getattr(target, part)
    return target


def load_call(function: str, arguments: str) -> tuple[Callable, tuple[Any, ...]]:
    """A function and the positional arguments for it.

    Args:
        function: `module:function`.
        arguments: `module:example_args`, a tuple, or a function without parameters that returns one.

    Raises:
        TargetError: one of them is not of that form, or the function does not take these arguments.
    """
    fun, args = load(function), load(arguments)
    if not callable(fun):
        raise TargetError(f"{function!r} is a {type(fun).__name__}, not a function; name the function to differentiate")
    if callable(args):
        try:
            args = args()
        except (Exception, SystemExit) as error:  # whatever the user's function raises
            raise TargetError(f"{arguments!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(args, (tuple, list)):
        raise TargetError(
            f"{arguments!r} gave a {type(args).__name__}; it must be, or return, a tuple with one entry for each "
            f"positional argument of {function!r}"
        )
    try:
        inspect.signature(fun).bind(*args)
    except TypeError as error:
        raise TargetError(f"{function!r} does not take the {len(args)} arguments of {arguments!r}: {error}") from None
    except ValueError:  # no signature to check against
        pass
    return fun, tuple(args)
