"""The magics `%ckptgrad plan|validate|frontier|timeline CALL [options]` and, on top of a cell, `%%ckptgrad [options]`."""

from __future__ import annotations

import ast
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ckptgrad.doors.frontier import frontier
from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.doors.plan import plan
from ckptgrad.doors.timeline import timeline
from ckptgrad.errors import CkptgradError, ValidationError
from ckptgrad.errors.base import near_miss
from ckptgrad.meters.meter import meters
from ckptgrad.notebook.calls import WrittenCall, evaluate_call, read_call, split_options
from ckptgrad.notebook.profiled import profile
from ckptgrad.request import Request, taken_by, text_options
from ckptgrad.validation import jax_grad_point, validate

COMMANDS: dict[str, Callable[..., Any]] = {"plan": plan, "validate": validate, "frontier": frontier, "timeline": timeline}
EXAMPLE = "%ckptgrad timeline loss(params, x) --budget 0.25x"


def _options(argstring: str) -> Any:
    try:
        return parse_argstring(CkptgradMagics.ckptgrad, argstring)
    except SystemExit:  # argparse has printed what is wrong
        raise UsageError(f"for example: {EXAMPLE}") from None


def _request_options(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Give a magic the options of a request; of what is parsed, those that are not given have no attribute."""
    for option in reversed(text_options()):
        action = "store_true" if option.is_flag else "append" if option.text.repeats else "store"
        magic = argument(option.typed, action=action, default=SUPPRESS, help=option.help)(magic)
    return magic


@magics_class
class CkptgradMagics(Magics):
    """`%ckptgrad` and `%%ckptgrad`."""

    @no_var_expand
    @magic_arguments()
    @_request_options
    @argument("--observe", default="xla", help=f"Meters, separated by commas: {', '.join(meters())}; all; none.")
    @argument("--locate", action="store_true", help="validate: find where a gradient goes wrong.")
    @argument("--into", help="Assign the result to this name instead of showing it.")
    @line_cell_magic
    def ckptgrad(self, line: str, cell: str | None = None) -> Any:
        """Show where the memory of a gradient goes.

        As a line magic, it takes a command and a call, which is not run as written:

            %ckptgrad plan loss(params, x) --budget 0.25x
            %ckptgrad timeline loss(params, x) --budget 64MiB --observe all
            %ckptgrad frontier loss(params, x)
            %ckptgrad validate loss(params, x) --budget 0.5x

        As a cell magic, `%%ckptgrad --budget 64MiB`, it runs the cell, but for the call in the last line it computes the
        gradient within the budget. The result, which the last line may assign to a name, has the attributes value,
        gradient, plan and timeline.
        """
        try:
            return self._line(line) if cell is None else self._cell(line, cell)
        except CkptgradError as error:
            if isinstance(error, ValidationError) and error.validation is not None:
                print(error.validation)
            raise UsageError(str(error)) from None

    def _line(self, line: str) -> Any:
        command, _, rest = line.strip().partition(" ")
        if command not in COMMANDS:
            like = near_miss(command, COMMANDS)
            meant = f"did you mean {like!r}? " if like else ""
            raise UsageError(f"{meant}write one of {', '.join(COMMANDS)} and a call, for example: {EXAMPLE}")
        text, argstring = split_options(rest)
        options = _options(argstring)
        call = read_call(text, self.shell.user_ns)  # type: ignore[union-attr]
        return self._deliver(_run(command, call, options), options)

    def _cell(self, line: str, cell: str) -> Any:
        options = _options(line)
        asked = _accepted(value_and_grad, _asked(options), "%%ckptgrad")
        try:
            tree = ast.parse(cell)
        except SyntaxError as error:
            raise UsageError(f"the cell: {error.msg}, line {error.lineno}") from None
        before, last = tree.body[:-1], tree.body[-1] if tree.body else None
        target = None
        if isinstance(last, ast.Assign) and len(last.targets) == 1 and isinstance(last.targets[0], ast.Name):
            target = last.targets[0].id
        elif not isinstance(last, ast.Expr):
            raise UsageError("the last line of the cell must be a call, such as loss(params, x) or result = loss(params, x)")
        names = self.shell.user_ns  # type: ignore[union-attr]
        exec(compile(ast.Module(before, []), "<ckptgrad cell>", "exec"), names)
        call = evaluate_call(last.value, names)
        profiled = profile(call, options.observe, **asked)
        if target is not None:
            names[target] = profiled
            return None
        return self._deliver(profiled, options)

    def _deliver(self, result: Any, options: Any) -> Any:
        if not options.into:
            return result
        self.shell.user_ns[options.into] = result  # type: ignore[union-attr]
        return None


def _run(command: str, call: WrittenCall, options: Any) -> Any:
    fun, args, kwargs = call
    door, asked, own = COMMANDS[command], _asked(options), {}
    if command == "timeline":
        own = {"observe": options.observe}
    elif command == "validate":
        own = {"meters": options.observe, "locate": options.locate}
        if "policy" in asked:
            own["policies"] = [asked.pop("policy")]
    result = door(fun, *args, **own, **_accepted(door, asked, command), **kwargs)
    if command == "frontier":
        return result.beside(jax_grad_point(fun, *args, **taken_by(jax_grad_point, asked), **kwargs))
    return result


def _asked(options: Any) -> dict[str, Any]:
    """The options of a request that are given, checked, as the doors take them."""
    given = vars(options)
    asked = {option.name: option.value(given[option.name]) for option in text_options() if option.name in given}
    Request(**asked)
    return asked


def _accepted(door: Callable[..., Any], asked: dict[str, Any], command: str) -> dict[str, Any]:
    """The options, all of which the door must take."""
    accepted = taken_by(door, asked)
    for option in text_options():
        if option.name in asked and option.name not in accepted:
            raise UsageError(f"{command} takes no {option.typed}")
    return accepted
