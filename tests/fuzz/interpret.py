"""Evaluation of jaxprs operation by operation, so that no program is compiled, only each kind of operation, once.

Compiling a program and its gradient takes half a second, more than everything else together. Here Python runs the loops and
branches, NumPy the common operations, and JAX the others eagerly, compiled once for all programs.

With `double_precision`, every float has double precision, whatever dtype the program gives it, so that two ways of computing
the same thing agree to many digits in programs of mixed dtypes too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ckptgrad.compat import CALLS, scan_counts

# Operations whose result depends on the number of bits, so that they keep their dtypes.
_FIXED = {
    "bitcast_convert_type",
    "reduce_precision",
    "nextafter",
    "random_bits",
    "threefry2x32",
    "random_wrap",
    "random_unwrap",
}
_INNER = {**CALLS, "remat": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def evaluate(closed: ClosedJaxpr, args: Sequence[Any], *, double_precision: bool = False) -> list[Any]:
    """The results of a jaxpr."""
    with np.errstate(all="ignore"):
        return Interpreter(double_precision).closed(closed, [_as_numpy(a, double_precision) for a in args])


class Interpreter:
    """Runs jaxprs, in their own dtypes or in double precision."""

    def __init__(self, double_precision: bool):
        self.double_precision = double_precision
        self._needed: dict[Any, list[Any]] = {}

    def closed(self, closed: ClosedJaxpr, args: Sequence[Any], needed: Sequence[bool] | None = None) -> list[Any]:
        """Run a closed jaxpr; results that are not needed may be None."""
        return self.open(closed.jaxpr, [_as_numpy(c, self.double_precision) for c in closed.consts], args, needed)

    def open(
        self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], needed: Sequence[bool] | None = None
    ) -> list[Any]:
        """Run an open jaxpr on its constants and arguments."""
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            if isinstance(atom, Literal):
                return _as_numpy(np.asarray(atom.val, atom.aval.dtype), self.double_precision)
            return env.get(atom)

        for eqn, flags in self.needed_operations(jaxpr, needed):
            env.update(zip(eqn.outvars, self.run(eqn, [read(a) for a in eqn.invars], flags), strict=True))
        return [read(a) for a in jaxpr.outvars]

    def needed_operations(self, jaxpr: Jaxpr, needed: Sequence[bool] | None) -> list[tuple[Any, list[bool]]]:
        """The operations on which the needed results depend, each with flags for the outputs needed of it. A compiler drops
        the others too, and with them operations that JAX refuses to run.
        """
        key = jaxpr, None if needed is None else tuple(needed)
        if key not in self._needed:
            outputs = jaxpr.outvars if needed is None else [a for a, n in zip(jaxpr.outvars, needed, strict=True) if n]
            live = {a for a in outputs if not isinstance(a, Literal)}
            kept = []
            for eqn in reversed(jaxpr.eqns):
                flags = [v in live for v in eqn.outvars]
                if any(flags) or eqn.effects:
                    kept.append((eqn, flags))
                    live.update(a for a in eqn.invars if not isinstance(a, Literal))
            self._needed[key] = kept[::-1]
        return self._needed[key]

    def run(self, eqn: Any, values: list[Any], needed: Sequence[bool]) -> Sequence[Any]:
        """Run one operation."""
        name, params = eqn.primitive.name, eqn.params
        if name in _INNER:
            inner = params[_INNER[name]]
            return self.closed(inner, values, needed) if hasattr(inner, "consts") else self.open(inner, [], values, needed)
        control = {"scan": self.scan, "while": self.while_loop, "cond": self.cond}.get(name)
        if control is not None:
            return control(eqn, values, **params)
        if name == "planned_linear":
            return self.closed(jax.make_jaxpr(params["pair"].run)(*(_struct(a.aval) for a in eqn.invars)), values)
        if name == "optimization_barrier":
            return values
        by_numpy = _NUMPY.get(name) if _are_arrays(values) else None
        result = None if by_numpy is None else by_numpy(eqn, values, params, self.double_precision)
        return [result] if result is not None else self.bind(eqn, values)

    def bind(self, eqn: Any, values: list[Any]) -> Sequence[Any]:
        """Run an operation by JAX."""
        params = eqn.params
        if self.double_precision:
            if eqn.primitive.name in _FIXED:
                values = [_to_type_of(v, a.aval) for v, a in zip(values, eqn.invars, strict=True)]
            else:
                params = {k: _to_double(v) if isinstance(v, np.dtype) else v for k, v in params.items()}
                if params.get("update_jaxpr") is not None:
                    return [_scattered(eqn.primitive.name, values, params)]
        results = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(params))
        results = results if eqn.primitive.multiple_results else [results]
        return [_as_numpy(x, self.double_precision) for x in results]

    def scan(
        self,
        eqn: Any,
        values: list[Any],
        *,
        jaxpr: Any,
        length: int,
        reverse: bool,
        **_: Any,
    ):
        """Run a loop of known length."""
        num_consts, num_carry = scan_counts(eqn.params)
        first = num_consts + num_carry
        consts, carry, xs = values[:num_consts], values[num_consts:first], values[first:]
        rows: list[Any] = [None] * length
        for i in reversed(range(length)) if reverse else range(length):
            results = self.closed(jaxpr, [*consts, *carry, *(x[i] for x in xs)])
            carry, rows[i] = results[:num_carry], results[num_carry:]
        return [*carry, *(self._stacked(v.aval, [r[k] for r in rows]) for k, v in enumerate(eqn.outvars[num_carry:]))]

    def _stacked(self, aval: Any, rows: list[Any]) -> Any:
        if _is_key(aval):
            return jnp.stack(rows) if rows else jnp.empty(aval.shape, aval.dtype)
        return (
            np.stack(rows) if rows else np.zeros(aval.shape, _to_double(aval.dtype) if self.double_precision else aval.dtype)
        )

    def while_loop(
        self,
        eqn: Any,
        values: list[Any],
        *,
        cond_jaxpr: Any,
        body_jaxpr: Any,
        cond_nconsts: int,
        body_nconsts: int,
        **_: Any,
    ):
        """Run a loop until its predicate is false."""
        tests, rest = values[:cond_nconsts], values[cond_nconsts:]
        consts, carry = rest[:body_nconsts], rest[body_nconsts:]
        while np.any(going := np.asarray(self.closed(cond_jaxpr, [*tests, *carry])[0])):
            results = self.closed(body_jaxpr, [*consts, *carry])
            # Under vmap there may be one predicate per entry of the batch; an entry that has ended keeps its values.
            carry = [_select(going, new, old) for new, old in zip(results, carry, strict=True)] if going.ndim else results
        return carry

    def cond(self, eqn: Any, values: list[Any], *, branches: Any, **_: Any):
        """Run the branch that the first value selects."""
        return self.closed(branches[min(max(int(values[0]), 0), len(branches) - 1)], values[1:])


def _scattered(name: str, values: list[Any], params: Any) -> np.ndarray:
    """A scatter by the JAX function of the same name, because the jaxpr inside the operation is made for one dtype."""
    scatter = getattr(jax.lax, name.replace("-", "_"))
    options = {k: params[k] for k in ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")}
    return np.asarray(scatter(*values, **options))


def _select(which: np.ndarray, new: Any, old: Any) -> Any:
    return np.where(which.reshape(which.shape + (1,) * (new.ndim - which.ndim)), new, old)


def _is_key(value: Any) -> bool:
    return dtypes.issubdtype(value.dtype, dtypes.prng_key)


def _are_arrays(values: Sequence[Any]) -> bool:
    return not any(isinstance(v, jax.Array) for v in values)


def _to_double(dtype: Any) -> Any:
    if dtypes.issubdtype(dtype, np.complexfloating):
        return np.dtype(np.complex128)
    return np.dtype(np.float64) if dtypes.issubdtype(dtype, np.floating) else dtype


def _as_numpy(value: Any, double_precision: bool) -> Any:
    """A NumPy array, or a typed key."""
    if hasattr(value, "dtype") and _is_key(value):
        return value
    value = np.asarray(value)
    return value.astype(_to_double(value.dtype), copy=False) if double_precision and value.dtype != dtypes.float0 else value


def _to_type_of(value: Any, aval: Any) -> Any:
    return value if _is_key(aval) else np.asarray(value).astype(aval.dtype)


def _struct(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def _elementwise(function: Callable) -> Callable:
    def run(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
        return np.asarray(function(*values))

    return run


def _real_only(function: Callable) -> Callable:
    """For functions on which NumPy and JAX agree for real numbers, if there are no further parameters."""

    def run(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
        return np.asarray(function(*values)) if values[0].dtype.kind == "f" and values[0].dtype.itemsize > 2 else None

    return run


def _converted(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
    old, new = values[0].dtype, params["new_dtype"]
    if double_precision:
        new = _to_double(new)
    # JAX has its own way to convert floats that are out of range to integers.
    if old.kind == "c" and new.kind == "f":
        return values[0].real.astype(new)
    return None if old.kind in "fcV" and new.kind in "iub" else values[0].astype(new)


def _broadcast(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
    shape, dimensions = params["shape"], params["broadcast_dimensions"]
    if len(values) > 1:
        return None
    expanded = [1] * len(shape)
    for n, k in zip(values[0].shape, dimensions, strict=True):
        expanded[k] = n
    return np.broadcast_to(values[0].reshape(expanded), shape)


def _reshaped(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
    return values[0].reshape(params["new_sizes"]) if params.get("dimensions") is None else None


def _selected(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
    which, *cases = values
    if len(cases) != 2 or which.dtype != np.bool_:
        return None
    return np.where(which, cases[1], cases[0])


def _summed(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
    return (
        np.asarray(values[0].sum(axis=tuple(params["axes"]), dtype=values[0].dtype))
        if values[0].dtype.itemsize > 2
        else None
    )


def _powered(eqn: Any, values: list[Any], params: Any, double_precision: bool) -> Any:
    return np.asarray(values[0] ** params["y"]) if values[0].dtype == np.float64 and params["y"] >= 0 else None


_NUMPY: dict[str, Callable] = {
    **{name: _elementwise(f) for name, f in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "lt": np.less, "le": np.less_equal,
        "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "add_any": np.add,
        "copy": np.copy, "copy_p": np.copy,
    }.items()},
    **{name: _real_only(f) for name, f in {
        "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "exp": np.exp, "log": np.log, "div": np.divide, "sqrt": np.sqrt,
        "square": np.square,
    }.items()},
    "convert_element_type": _converted, "broadcast_in_dim": _broadcast, "reshape": _reshaped, "select_n": _selected,
    "reduce_sum": _summed, "integer_pow": _powered,
    "squeeze": lambda eqn, values, params, double_precision: values[0].squeeze(tuple(params["dimensions"])),
    "transpose": lambda eqn, values, params, double_precision: values[0].transpose(params["permutation"]),
}  # fmt: skip
