"""What the doors raise about a call: its options, its arguments, and the function itself."""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.errors.base import CkptgradError, brief


class OptionError(CkptgradError, ValueError):
    """An option of a door (policy, costs, argnums) that does not exist.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(abs, costs="guess")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.OptionError: ...
    """


class KeywordError(OptionError, TypeError):
    """A keyword that is neither an option of a door nor a parameter of the function given to it, and like an option's.

    Example:
        >>> import ckptgrad as cg
        >>> cg.plan(abs, 2.0, budgt="1MiB")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.KeywordError: ...
    """


class ArgnumsError(OptionError, TypeError):
    """`argnums` that are not integers, or that name an argument which the call does not have.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(lambda x: x, argnums=1)(2.0)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ArgnumsError: ...
    """


class BudgetFormatError(CkptgradError, ValueError):
    """A budget that cannot be read as a number of bytes.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(abs, budget="a lot")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.BudgetFormatError: cannot read the budget 'a lot': ...
    """

    def __init__(self, budget: object, reason: str) -> None:
        self.budget = budget
        stop = "" if reason.endswith("?") else "."
        super().__init__(
            f"cannot read the budget {brief(budget)}: {reason}{stop} Give bytes as an int, or a string such as "
            f'"512MiB", "2GB", "0.25x" (of what policy store_all needs), "min" or "auto"'
        )


class GradientTypeError(CkptgradError, TypeError):
    """An argument, output or cotangent that has no gradient or the wrong structure.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(lambda n: n * 2)(3)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.GradientTypeError: ...
    """


class MismatchError(GradientTypeError, ValueError):
    """Tangents or cotangents that do not fit what they belong to: another structure, shape or dtype.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.vjp(jnp.sin, 1.0)[1](jnp.ones(3))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.MismatchError: ...
    """


class ReferenceTypeError(CkptgradError, TypeError):
    """A mutable reference that cannot be differentiated: an argument, or one that keeps a differentiated value.

    Example:
        >>> import jax, ckptgrad as cg
        >>> total = jax.new_ref(0.0)
        >>> cg.vjp(lambda ref: ref[...] ** 2, total)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ReferenceTypeError: ...
    """

    def __init__(
        self, source: object = None, where: str = "from outside the differentiated function", problem: str | None = None
    ) -> None:
        self.source = source
        at = f", used at {source}," if source is not None else ""
        super().__init__(
            f"{problem or f'a mutable reference {where}{at} cannot be differentiated'}. Move the array reference inside "
            "(jax.new_ref), or pass its value in and return the new one"
        )


class StaticArgumentError(CkptgradError, TypeError, ValueError):
    """A certified program is called with another value for what it was compiled for.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> step = cg.grad(lambda x, n: jnp.sum(x) ** n).compile(jnp.ones(2), 3)
        >>> step(jnp.ones(2), 4)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.StaticArgumentError: ...
    """

    def __init__(self, function: str, argument: str, compiled: object, called: object, what: str = "gradient of") -> None:
        now = "it was changed in place since" if called is compiled else f"is called with {called!r}"
        super().__init__(
            f"this {what} {function} was compiled for {argument} = {compiled!r}, which is not traced, and {now}; "
            f"compile again for the new value, or pass a number as an array so that it is traced"
        )


class StateError(CkptgradError, TypeError):
    """An object changed in place where the change would be lost: the function is traced with a copy of its arguments.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> @jax.tree_util.register_pytree_node_class
        ... class Counter:
        ...     def __init__(self, count): self.count = count
        ...     def tree_flatten(self): return (self.count,), None
        ...     @classmethod
        ...     def tree_unflatten(cls, _, leaves): return cls(*leaves)
        >>> def loss(x, counter):
        ...     counter.count = counter.count + 1
        ...     return x * counter.count
        >>> cg.grad(loss)(2.0, Counter(jnp.ones(())))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.StateError: ...
    """

    def __init__(self, function: str, kind: str, changed: Sequence[str], nnx: bool = False) -> None:
        self.changed = tuple(changed)
        what = ", ".join(self.changed[:4]) + (f" and {len(self.changed) - 4} more" if len(self.changed) > 4 else "")
        remedy = (
            "use ckptgrad.nnx.value_and_grad or ckptgrad.nnx.grad, which update it as Flax's do, for a door that only looks "
            "write `call, parts = ckptgrad.nnx.pure(loss, *args)` and `ckptgrad.plan(call, *parts, has_aux=True)`, or "
            "nnx.split it, and nnx.merge it inside"
            if nnx
            else "return the new values as well, with has_aux=True"
        )
        super().__init__(
            f"{function} changes an argument of type {kind} in place: {what}. What is differentiated is a copy, so that the "
            f"change would be lost; {remedy}"
        )


class StageError(CkptgradError, TypeError):
    """A chain's stages do not fit together, or a stage cannot be run twice.

    Example:
        >>> import ckptgrad as cg
        >>> cg.Chain([])
        Traceback (most recent call last):
        ...
        ckptgrad.errors.StageError: a chain needs at least one stage
    """


class NestingError(CkptgradError, RecursionError):
    """A function is nested too deeply to be traced, or calls itself without end."""
