"""The magics `%ckptgrad plan|validate|frontier|timeline CALL [options]` and, on top of a cell, `%%ckptgrad [options]`."""

from __future__ import annotations

import ast
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ckptgrad.doors.frontier import frontier
from ckptgrad.doors.plan import plan
from ckptgrad.doors.timeline import timeline
from ckptgrad.errors import CkptgradError, ValidationError
from ckptgrad.notebook.calls import WrittenCall, evaluate_call, read_call, split_options
from ckptgrad.notebook.profiled import profile
from ckptgrad.validation import jax_grad_point, validate

COMMANDS = ("plan", "validate", "frontier", "timeline")
EXAMPLE = "%ckptgrad timeline loss(params, x) --budget 0.25x"


def _options(argstring: str) -> Any:
    try:
        return parse_argstring(CkptgradMagics.ckptgrad, argstring)
    except SystemExit:  # argparse has printed what is wrong
        raise UsageError(f"for example: {EXAMPLE}") from None


@magics_class
class CkptgradMagics(Magics):
    """`%ckptgrad` and `%%ckptgrad`."""

    @no_var_expand
    @magic_arguments()
    @argument("--budget", help="Bytes beyond the arguments: 512MiB, 0.25x (of store_all), min, auto.")
    @argument("--policy", default="optimal", help="The policy that decides what to store.")
    @argument("--argnums", help="Arguments to differentiate: 0, or 0,1 for a tuple of gradients.")
    @argument("--has-aux", action="store_true", help="The function returns (scalar, aux).")
    @argument("--observe", default="xla", help="Meters, separated by commas: xla, ledger, resident, device; all; none.")
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
            raise UsageError(f"{type(error).__name__}: {error}") from None

    def _line(self, line: str) -> Any:
        command, _, rest = line.strip().partition(" ")
        if command not in COMMANDS:
            raise UsageError(f"write one of {', '.join(COMMANDS)} and a call, for example: {EXAMPLE}")
        text, argstring = split_options(rest)
        options = _options(argstring)
        call = read_call(text, self.shell.user_ns)  # type: ignore[union-attr]
        return self._deliver(_run(command, call, options), options)

    def _cell(self, line: str, cell: str) -> Any:
        options = _options(line)
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
        profiled = profile(call, options.observe, **_common(options))
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
    common = _common(options)
    fun, args, kwargs = call
    if command == "timeline":
        return timeline(fun, *args, observe=options.observe, **common, **kwargs)
    if command == "plan":
        return plan(fun, *args, **common, **kwargs)
    shared = {"argnums": common["argnums"], "has_aux": common["has_aux"]}
    if command == "frontier":
        return frontier(fun, *args, **shared, **kwargs).beside(jax_grad_point(fun, *args, **shared, **kwargs))
    policies = None if options.policy == "optimal" else [options.policy]
    shared |= {"budget": common["budget"], "policies": policies, "meters": options.observe, "locate": options.locate}
    return validate(fun, *args, **shared, **kwargs)


def _common(options: Any) -> dict[str, Any]:
    """Budget, policy, argnums and has_aux, as the doors take them."""
    argnums: Any = 0
    if options.argnums:
        try:
            numbers = tuple(int(n) for n in options.argnums.split(","))
        except ValueError:
            raise UsageError(f"--argnums {options.argnums}: write a number, or several separated by commas") from None
        argnums = numbers if "," in options.argnums else numbers[0]
    return {"budget": options.budget, "policy": options.policy, "argnums": argnums, "has_aux": options.has_aux}
