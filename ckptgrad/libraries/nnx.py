"""`ckptgrad.nnx`: gradients of functions of Flax NNX modules, within a memory budget.

NNX's modules change while they run: batch statistics, counters of random keys, sown values. `value_and_grad` and `grad` take
modules apart into what is differentiated and the rest (`nnx.split`), differentiate a pure function of both, and write back
into the modules of the caller what the function left in its copies (`nnx.update_context`), as Flax's functions of the same
names do. What the function leaves unchanged is no result of the program: parameters are not held twice.

Example:
    >>> import jax.numpy as jnp, ckptgrad as cg
    >>> from flax import nnx
    >>> model, x = nnx.BatchNorm(2, rngs=nnx.Rngs(0)), jnp.array([[0.0, 1.0], [2.0, 3.0]])
    >>> gradient = cg.nnx.grad(lambda model, x: jnp.sum(model(x) ** 2), budget="1MiB")(model, x)
    >>> [round(float(m), 3) for m in model.mean[...]]  # 0.01 of the batch's mean
    [0.01, 0.02]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax

from ckptgrad.doors.calling import check_function, positional
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.doors.outputs import output_and_aux
from ckptgrad.errors import ArgnumsError, GradientTypeError, MissingExtraError, StaticArgumentError
from ckptgrad.execution.certified import Certified
from ckptgrad.graph.naming import argument_name, standing_for, title
from ckptgrad.graph.state import is_nnx
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan

_TAG = "ckptgrad"


def value_and_grad(
    fun: Callable | None = None,
    *,
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    **options: Any,
) -> Any:
    """A function that evaluates `fun` and its gradient within a memory budget, and updates the modules that it is given.

    A drop-in for `flax.nnx.value_and_grad` in graph mode, outside and inside `nnx.jit` and `jax.jit`.

    Args:
        fun: a function of NNX modules, arrays and others, which returns a scalar, or (scalar, aux) with `has_aux`; left out
            where this is a decorator.
        argnums: which positional arguments to differentiate: an int, which means the `nnx.Param`s of the modules in that
            argument, an `nnx.DiffState(argnum, filter)`, or a sequence of these.
        has_aux, holomorphic, allow_int: as for `ckptgrad.value_and_grad`.
        **options: `budget` and the other keyword options of `ckptgrad.value_and_grad`.

    Returns:
        A function with the arguments of `fun` that returns (value, gradient), or ((value, aux), gradient); gradients are
        `nnx.State`s in the places of the modules. It also has `.plan(*args)` and `.compile(*args)`.

    Raises:
        MissingExtraError: Flax is not installed.
        Others as `ckptgrad.value_and_grad`; ValueError, from Flax, for a variable that is differentiated in one argument and
            not in another.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> from flax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> loss = lambda model, x: jnp.sum(model(x))
        >>> value, gradient = cg.nnx.value_and_grad(loss, budget="1MiB")(model, jnp.ones((3, 2)))
        >>> [float(g) for g in gradient["kernel"][...].ravel()]
        [3.0, 3.0]
    """
    options |= {"argnums": argnums, "has_aux": has_aux, "holomorphic": holomorphic, "allow_int": allow_int}
    if fun is None:
        return functools.partial(value_and_grad, **options)
    return NnxGradient(fun, **options, with_value=True)


def grad(
    fun: Callable | None = None,
    *,
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    **options: Any,
) -> Any:
    """A function that evaluates the gradient of `fun`; see `value_and_grad`.

    Returns:
        A function that returns the gradient, or (gradient, aux) with `has_aux`.
    """
    options |= {"argnums": argnums, "has_aux": has_aux, "holomorphic": holomorphic, "allow_int": allow_int}
    if fun is None:
        return functools.partial(grad, **options)
    return NnxGradient(fun, **options, with_value=False)


def pure(
    fun: Callable, *args: Any, argnums: Any = 0, has_aux: bool = False, **kwargs: Any
) -> tuple[Callable, tuple[Any, Any]]:
    """A call of a function of modules as one of a pure function of arrays, for `ckptgrad.frontier`, `timeline` and the like.

    Args:
        fun, *args, **kwargs: the function and its arguments.
        argnums, has_aux: as for `value_and_grad`.

    Returns:
        A function that returns (scalar, what changed), and its two arguments: what is differentiated, and the rest. The
        modules stay what they are.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> from flax import nnx
        >>> model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
        >>> call, parts = cg.nnx.pure(lambda model, x: jnp.sum(model(x) ** 2), model, jnp.ones((3, 2)))
        >>> cg.plan(call, *parts, has_aux=True).peak_bytes > 0
        True
    """
    split = _Split.of(fun, argnums, has_aux, args, kwargs, tag=None)
    return split.function, (split.differentiated, split.rest)


class NnxGradient:
    """A function of NNX modules that returns a value and its gradient under a memory budget.

    Made by `ckptgrad.nnx.value_and_grad` and `ckptgrad.nnx.grad`; call it like Flax's.
    """

    def __init__(self, fun: Callable, *, argnums: Any, has_aux: bool, with_value: bool, **options: Any) -> None:
        _flax()
        check_function(fun)
        if is_nnx(module := getattr(fun, "__self__", None)):
            raise GradientTypeError(
                f"{title(fun)} is a method of a module, which is no argument of it: its state would be lost. Give the "
                f"function of the class, {type(module).__name__}.{fun.__name__}, and call the gradient with the module"
            )
        self.fun, self.argnums, self.has_aux, self.with_value = fun, argnums, has_aux, with_value
        self.request = Request(has_aux=True, **options)
        _filters(argnums, None)
        functools.update_wrapper(self, fun, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _flax().update_context(_TAG):
            split = self._split(args, kwargs)
            return self._returned(split, self._door(split)(split.differentiated, split.rest))

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """What will be stored and recomputed for these arguments; the modules stay what they are."""
        split = self._split(args, kwargs, tag=None)
        return self._door(split).plan(split.differentiated, split.rest)

    def compile(self, *args: Any, **kwargs: Any) -> Certified:
        """Compile for these arguments and certify the peak, as `GradientFunction.compile`; calls update their modules.

        The program is for modules of the structure that these have now (in training or evaluation mode, for example).
        """
        with _flax().update_context(_TAG):
            split = self._split(args, kwargs)
            certified = self._door(split).compile(split.differentiated, split.rest)
        values = {f.name: getattr(certified, f.name) for f in fields(Certified)}
        return _CertifiedNnx(**values, door=self, structure=split.structure)

    def _split(self, args: tuple[Any, ...], kwargs: dict[str, Any], tag: str | None = _TAG) -> _Split:
        return _Split.of(self.fun, self.argnums, self.has_aux, args, kwargs, tag)

    def _door(self, split: _Split) -> GradientFunction:
        return GradientFunction(split.function, self.request, with_value=True)

    def _returned(self, split: _Split, result: Any) -> Any:
        """What the caller gets; what the function left in its modules is written to those of the caller."""
        (value, left), gradients = result
        _, aux = _flax().from_tree(left.restored(split.leaves), ctxtag=_TAG, is_inner=False)
        gradient = gradients if isinstance(self.argnums, Sequence) else gradients[0]
        if self.with_value:
            return ((value, aux) if self.has_aux else value), gradient
        return (gradient, aux) if self.has_aux else gradient


@dataclass(frozen=True, repr=False)
class _CertifiedNnx(Certified):
    """A certified gradient that is called with modules, which it updates."""

    door: Any = None
    structure: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _flax().update_context(_TAG):
            split = self.door._split(args, kwargs)
            if split.structure != self.structure:
                raise StaticArgumentError(title(self.door.fun), "the structure of its arguments", _AsCompiled(), _Another())
            return self.door._returned(split, super().__call__(split.differentiated, split.rest))


class _AsCompiled:
    def __repr__(self) -> str:
        return "that of its example arguments (modules in the same mode, with the same attributes)"


class _Another:
    def __repr__(self) -> str:
        return "another one"


@dataclass(frozen=True)
class _Split:
    """A call, taken apart.

    Attributes:
        function: from what is differentiated and the rest to (scalar, what changed).
        differentiated: one entry per differentiated argument, as its gradient: a state in place of each module.
        rest: the arguments without that.
    """

    function: Callable[..., Any]
    differentiated: tuple[Any, ...]
    rest: Any

    @property
    def leaves(self) -> list[Any]:
        """All that is given to the function."""
        return jax.tree.leaves((self.differentiated, self.rest))

    @property
    def structure(self) -> Any:
        """Of what is given to the function: types of modules, attributes that are no arrays, names of variables."""
        return jax.tree.structure((self.differentiated, self.rest))

    @classmethod
    def of(
        cls, fun: Callable, argnums: Any, has_aux: bool, args: tuple[Any, ...], kwargs: dict[str, Any], tag: str | None
    ) -> _Split:
        nnx = _flax()
        args, kwargs = positional(fun, args, kwargs)
        filters = _filters(argnums, len(args))
        prefix = tuple(filters.get(i) for i in range(len(args)))
        trees, keywords = nnx.to_tree((args, kwargs), prefix=(prefix, None), split_fn=_split_object, ctxtag=tag)
        differentiated = tuple(_first_part(trees[i]) for i in filters)
        rest = ([_second_part(x) if i in filters else x for i, x in enumerate(trees)], keywords)

        def function(differentiated: tuple[Any, ...], rest: Any) -> tuple[Any, Any]:
            whole, keywords = list(rest[0]), rest[1]
            for i, part in zip(filters, differentiated, strict=True):
                whole[i] = _joined(part, whole[i])
            args, kwargs = nnx.from_tree((tuple(whole), keywords), ctxtag=tag, is_inner=True)
            out, aux = fun(*args, **kwargs), None
            if has_aux:
                out, aux = output_and_aux(out, fun)
            arguments, aux = nnx.to_tree(((args, kwargs), aux), ctxtag=tag)
            return out, _Left.of((_objects_alone(arguments), aux), jax.tree.leaves((differentiated, rest)))

        names = [argument_name(fun, i, len(args), kwargs) for i in range(len(args))]

        def called(place: int | str, path: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
            if place == 0:
                return names[list(filters)[path[0].idx]], path[1:]
            argument = names[path[1].idx] if path[0].idx == 0 else str(path[1].key)
            return argument, _without_states(path[2:])

        return cls(standing_for(fun, function, called=called), differentiated, rest)


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class _Left:
    """What a function leaves: the leaves that it did not get, and where the others were among those that it got."""

    changed: tuple[Any, ...]
    structure: Any
    places: tuple[int | None, ...]

    @classmethod
    def of(cls, tree: Any, given: Sequence[Any]) -> _Left:
        leaves, structure = jax.tree.flatten(tree)
        place = {id(x): k for k, x in enumerate(given)}
        places = tuple(place.get(id(x)) for x in leaves)
        return cls(tuple(x for x, k in zip(leaves, places, strict=True) if k is None), structure, places)

    def restored(self, given: Sequence[Any]) -> Any:
        """The whole tree, from other leaves in the places of those that the function got."""
        rest = iter(self.changed)
        return jax.tree.unflatten(self.structure, [next(rest) if k is None else given[k] for k in self.places])

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        return self.changed, (self.structure, self.places)

    @classmethod
    def tree_unflatten(cls, static: Any, changed: Any) -> _Left:
        return cls(tuple(changed), *static)


def _split_object(ctx: Any, path: Any, chosen: Any, value: Any) -> Any:
    nnx = _flax()
    if chosen is None or isinstance(value, nnx.Variable):
        return nnx.NodeStates.from_split(*ctx.split(value))
    return nnx.NodeStates.from_split(*ctx.split(value, chosen.filter, ...))


def _without_states(path: Sequence[Any]) -> tuple[Any, ...]:
    """A path as users write it: an attribute of a module, not of the part of its state."""
    keys = [str(key) for key in path]
    return tuple(key for k, key in enumerate(path) if keys[k] != ".states" and (k == 0 or keys[k - 1] != ".states"))


def _is_object(x: Any) -> bool:
    """Whether it stands for a module or a variable."""
    return isinstance(x, _flax().NodeStates)


def _first_part(tree: Any) -> Any:
    """What is differentiated of an argument."""
    return jax.tree.map(lambda x: x.states[0] if _is_object(x) else x, tree, is_leaf=_is_object)


def _second_part(tree: Any) -> Any:
    """What is not; what has only the former is None."""
    return jax.tree.map(lambda x: x.replace(states=x.states[1:]) if _is_object(x) else None, tree, is_leaf=_is_object)


def _joined(first: Any, second: Any) -> Any:
    """The argument from its two parts."""

    def join(rest: Any, part: Any) -> Any:
        return part if rest is None else rest.replace(states=(part, *rest.states))

    return jax.tree.map(join, second, first, is_leaf=lambda x: x is None or _is_object(x))


def _objects_alone(tree: Any) -> Any:
    """Only what stands for modules and variables: the others belong to the caller."""
    return jax.tree.map(lambda x: x if _is_object(x) else None, tree, is_leaf=_is_object)


def _filters(argnums: Any, count: int | None) -> dict[int, Any]:
    """What is differentiated, by the positions of arguments, in the order in which it is asked for.

    Raises:
        ArgnumsError: they are not ints or `nnx.DiffState`s, or not positions in a call with `count` arguments.
    """
    nnx = _flax()
    found: dict[int, Any] = {}
    for entry in argnums if isinstance(argnums, Sequence) else (argnums,):
        chosen = entry if isinstance(entry, nnx.DiffState) else nnx.DiffState(entry, nnx.Param)
        k = chosen.argnum
        if not isinstance(k, int) or isinstance(k, bool):
            raise ArgnumsError(f"argnums must be ints, nnx.DiffStates or a sequence of these, got {argnums!r}")
        if count is not None and not -count <= k < count:
            raise ArgnumsError(f"argnums={argnums!r} is out of range: the call has {count} positional arguments")
        place = k if count is None else k % count
        if place in found:
            raise ArgnumsError(f"argnums={argnums!r} names an argument twice")
        found[place] = chosen
    if not found:
        raise ArgnumsError(f"argnums={argnums!r} must name at least one argument")
    return found


def _flax() -> Any:
    """Flax NNX.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from flax import nnx
    except ImportError:
        raise MissingExtraError("ckptgrad.nnx", "Flax", "flax") from None
    return nnx
