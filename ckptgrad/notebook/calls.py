"""A call as a user writes it, taken apart without running it: `loss(params, x)`."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from ckptgrad.errors import OptionError
from ckptgrad.errors.base import near_miss

# As what a call that was written is compiled.
_WRITTEN = "<ckptgrad>"


class WrittenCall(NamedTuple):
    """A function and what it would be called with."""

    function: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def read_call(text: str, names: dict[str, Any]) -> WrittenCall:
    """Evaluate the function and the arguments of a call in a namespace, but not the call.

    Raises:
        OptionError: the text is not a call, or names what is not there.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise OptionError(f"cannot read {text!r}: {error.msg}; write a call such as loss(params, x)") from None
    return evaluate_call(tree.body, names)


def evaluate_call(node: ast.AST, names: dict[str, Any]) -> WrittenCall:
    """As `read_call`, from the syntax tree of an expression."""
    if not isinstance(node, ast.Call):
        raise OptionError(f"{ast.unparse(node)!r} is not a call; write one such as loss(params, x)")
    collect = ast.copy_location(ast.Name("__ckptgrad_collect__", ast.Load()), node)
    gathered = ast.copy_location(ast.Call(collect, node.args, node.keywords), node)
    scope = {**names, "__ckptgrad_collect__": lambda *args, **kwargs: (args, kwargs)}
    try:
        function = eval(_compiled(node.func), scope)
        args, kwargs = eval(_compiled(gathered), scope)
    except NameError as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename != _WRITTEN:
            raise  # in the user's own code, which has its own traceback
        like = near_miss(error.name or "", [name for name in names if not name.startswith("_")])
        raise OptionError(f"{error}{f'; did you mean {like!r}?' if like else ''}") from None
    return WrittenCall(function, args, kwargs)


def _compiled(node: ast.AST) -> Any:
    return compile(ast.fix_missing_locations(ast.Expression(node)), _WRITTEN, "eval")  # type: ignore[arg-type]


def split_options(line: str) -> tuple[str, str]:
    """A call and the options after it: `f(x - -1) --budget 1MiB` is split before `--budget`."""
    place = line.find(" --")
    while place >= 0:
        try:
            ast.parse(line[:place].strip(), mode="eval")
        except SyntaxError:
            place = line.find(" --", place + 1)
            continue
        return line[:place].strip(), line[place:].strip()
    return line.strip(), ""
