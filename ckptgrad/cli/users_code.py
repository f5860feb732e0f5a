"""The user's code: functions and arguments named on the command line as `module:name`, and what happens while they run."""

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

from ckptgrad.cli.deliver import working
from ckptgrad.cli.meshes import AnyMesh, given_mesh, lies_on, needs_mesh
from ckptgrad.cli.output import results_alone
from ckptgrad.cli.tracebacks import users_traceback
from ckptgrad.errors import CkptgradError


class UserCodeError(CkptgradError):
    """A `module:name` that does not name anything usable, or code of the user's that raises or exits."""


def runs_users_code(command: Callable[..., None]) -> Callable[..., None]:
    """Keep apart what a command says and what the user's code does that it runs.

    What that code prints is not a result; if it raises or exits, that is not a verdict, and its lines are shown.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with results_alone():
            try:
                command(*args, **kwargs)
            except UserCodeError as error:
                typer.echo(users_traceback(error.__cause__) if error.__cause__ else "", err=True, nl=False)
                raise
            except (CkptgradError, typer.Exit, typer.Abort):
                raise
            except SystemExit as error:
                raise UserCodeError(
                    f"your code ended the program by sys.exit({error.code!r}); nothing was checked"
                ) from None
            except Exception as error:
                typer.echo(users_traceback(error) or traceback.format_exc(), err=True, nl=False)
                first = str(error).partition("\n")[0]
                raise UserCodeError(f"while your code ran: {type(error).__name__}: {first}") from error

    return run


def load(spec: str) -> Any:
    """The object called `module:name` (both may contain dots); the current folder is searched first.

    Raises:
        UserCodeError: the spec is malformed, the module cannot be imported, or has no such name.
    """
    module_name, colon, name = spec.partition(":")
    if not (colon and module_name and name):
        raise UserCodeError(f"cannot read {spec!r}: write it as module:name, for example mymodel:loss")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with working(f"importing {module_name}"):
            thing = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise UserCodeError(
            f"cannot import the module {module_name!r} of {spec!r}: {type(error).__name__}: {error}; run from its "
            f"folder, or put that folder on PYTHONPATH"
        ) from error
    for part in name.split("."):
        if not hasattr(thing, part):
            public = [n for n in dir(thing) if not n.startswith("_")]
            raise UserCodeError(f"{module_name!r} has no {name!r}; it has {', '.join(public) or 'no public names'}")
        thing = getattr(thing, part)
    return thing


def load_call(function: str, arguments: str, mesh: AnyMesh | None = None) -> tuple[Callable, tuple[Any, ...]]:
    """A function and the positional arguments for it.

    Args:
        function: `module:function`.
        arguments: `module:example_args`, a tuple, or a function that returns one, and has no parameters but `mesh`.
        mesh: given to either function as its parameter `mesh`, if it has one.

    Raises:
        UserCodeError: one of them is not of that form, the function does not take these arguments, a mesh is missing, or
            nothing lies on the one that there is.
    """
    fun, args = load(function), load(arguments)
    if not callable(fun):
        raise UserCodeError(f"{function!r} is a {type(fun).__name__}, not a function; name the function to differentiate")
    for name, code in ((function, fun), (arguments, args)):
        if mesh is None and callable(code) and needs_mesh(code):
            raise UserCodeError(f"{name!r} takes a mesh; say which, as in --mesh data=4,model=2")
    fun = given_mesh(fun, mesh)
    if callable(args):
        try:
            args = given_mesh(args, mesh)()
        except (Exception, SystemExit) as error:  # whatever the user's function raises
            raise UserCodeError(f"{arguments!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(args, (tuple, list)):
        raise UserCodeError(
            f"{arguments!r} gave a {type(args).__name__}; it must be, or return, a tuple with one entry for each "
            f"positional argument of {function!r}"
        )
    try:
        inspect.signature(fun).bind(*args)
    except TypeError as error:
        raise UserCodeError(f"{function!r} does not take the {len(args)} arguments of {arguments!r}: {error}") from None
    except ValueError:  # no signature to check against
        pass
    if mesh is not None and not lies_on(args, mesh):
        raise UserCodeError(
            f"nothing of {arguments!r} lies on the mesh of --mesh, or some lies on other devices; make it a function with a "
            f"parameter `mesh` that returns arrays, or jax.ShapeDtypeStruct(shape, dtype, sharding=...) where the devices "
            f"are not here, with shardings jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(...))"
        )
    return fun, tuple(args)
