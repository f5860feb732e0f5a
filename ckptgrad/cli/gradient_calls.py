"""The gradient that a command looks at: a function of the user's and its arguments, modules taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ckptgrad.cli.meshes import AnyMesh
from ckptgrad.cli.options import Asked
from ckptgrad.cli.users_code import load_call
from ckptgrad.doors.modules import open_modules
from ckptgrad.graph.state import holds_nnx
from ckptgrad.libraries import nnx


def load_gradient(
    function: str, arguments: str, mesh: AnyMesh | None, asked: Asked
) -> tuple[Callable, tuple[Any, ...], Asked]:
    """A function, its arguments, and the options of its gradient, as the doors that look at it and JAX's own take them.

    Of Flax NNX modules the parameters are differentiated, of Equinox modules the arrays, as by the functions of these
    libraries; what modules change is returned as well.

    Raises:
        UserCodeError: as from `load_call`.
    """
    fun, args = load_call(function, arguments, mesh)
    if holds_nnx(args):
        argnums, has_aux = asked.get("argnums", 0), asked.get("has_aux", False)
        fun, parts = nnx.pure(fun, *args, argnums=argnums, has_aux=has_aux)
        return fun, parts, {**asked, "argnums": 0, "has_aux": True}
    fun, args, _ = open_modules(fun, args, {})
    return fun, args, asked
