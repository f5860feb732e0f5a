"""Arguments and options that several commands share, and those of a request, which commands take from its doors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ckptgrad.cli.users_code import load
from ckptgrad.errors import MissingExtraError, OptionError
from ckptgrad.meters.meter import meters
from ckptgrad.request import Request, text_options
from ckptgrad.text_options import TextOption

Function = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function, which returns a scalar.")]
Arguments = Annotated[
    str, typer.Argument(metavar="MODULE:EXAMPLE_ARGS", help="Its arguments: a tuple, or a function that returns one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def in_a_folder(path: Path | None) -> Path | None:
    """Refuse a file in a folder that is not there, before any work.

    Raises:
        OptionError: there is no such folder.
    """
    if path is not None and not path.parent.is_dir():
        raise OptionError(f"cannot write {path}: there is no folder {str(path.parent)!r}")
    return path


HtmlFile = Annotated[
    Path | None, typer.Option("--html", callback=in_a_folder, help="Write one HTML file that opens in a browser.")
]


def _drawn_into(path: Path | None) -> Path | None:
    """Refuse pictures in a folder that is not there, or without what draws them, before any work.

    Raises:
        OptionError: there is no such folder.
        MissingExtraError: matplotlib is not installed.
    """
    if path is not None and find_spec("matplotlib") is None:
        raise MissingExtraError("drawing", "matplotlib", "plot")
    return in_a_folder(path)


PngPath = Annotated[
    Path | None,
    typer.Option("--png", callback=_drawn_into, help="Draw into this .png file, or every picture into this folder."),
]
MeshOption = Annotated[
    str | None,
    typer.Option(
        "--mesh",
        metavar="AXIS=DEVICES,...",
        help="Axes of a mesh over the target's devices, as data=4,model=2, given as `mesh` to the functions that take it: "
        "the one of the arguments returns them with their NamedShardings.",
    ),
]
METERS_HELP = f"In addition to xla, separated by commas: {', '.join(name for name in meters() if name != 'xla')}; all; none."
MetersOption = Annotated[str, typer.Option(help=METERS_HELP)]
# The parameters of commands that name something in a module of the user.
_NAMED = ("function", "arguments")
# The options of a request by name, as the door takes them: the parameter that `asks` fills.
Asked: TypeAlias = dict[str, Any]


def asks(door: Callable[..., Any], without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a door.

    The command has a parameter `asked`, in whose place typer sees one option for each that the door takes and that can be
    written as text. What is typed is checked, before the command runs, as a `Request`; the policy's name after the modules
    of the user are imported, which may register it.

    Args:
        door: the function whose options they are.
        without: names of options that the command decides itself.
    """
    options = [option for option in text_options(door) if option.name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [q for p in own for q in ([_parameter(o, p.kind) for o in options] if p.name == "asked" else [p])]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            asked = {option.name: _value(option, given.pop(option.name)) for option in options}
            Request(**{name: value for name, value in asked.items() if name != "policy"})
            for spec in (given[name] for name in _NAMED if name in given):
                load(spec)
            Request(**asked)
            command(asked=asked, **given)

        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def in_the_plural(name: str) -> str:
    """The name of an option that may be repeated, from its singular: `--tier` is `--tiers`."""
    return next((o.name for o in text_options() if o.text.repeats and o.name == f"{name}s"), name)


def _parameter(option: TextOption, kind: Any) -> inspect.Parameter:
    typed: Any = bool if option.is_flag else list[str] | None if option.text.repeats else str | None
    help_ = f"{option.help} May be repeated." if option.text.repeats else option.help
    default = None if option.text.repeats else option.default
    annotation = Annotated[typed, typer.Option(option.typed, help=help_)]
    return inspect.Parameter(option.name, kind, default=default, annotation=annotation)


def _value(option: TextOption, given: Any) -> Any:
    return option.default if given is None else option.value(given)
