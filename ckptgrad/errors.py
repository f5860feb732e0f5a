"""The errors that ckptgrad raises: each names the thing, its value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class CkptgradError(Exception):
    """Base of every error that ckptgrad raises on purpose.

    Example:
        >>> import ckptgrad as cg
        >>> issubclass(cg.BudgetError, cg.CkptgradError)
        True
    """


def _brief(value: object) -> str:
    """A value as a message shows it, whatever its size and however it prints."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits, for example
        return f"of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


class BudgetError(CkptgradError):
    """The budget is below the smallest peak that the policy can reach.

    `budget` and `smallest` are bytes, of one device where there are several (`devices`); `stage` is the 0-based stage that
    sets `smallest`, or None if unknown.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> try:
        ...     cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(1000), budget=100)
        ... except cg.BudgetError as error:
        ...     error.smallest > error.budget
        True
    """

    def __init__(
        self, budget: int, smallest: int, stage: int | None = None, policy: str | None = None, devices: int = 1
    ) -> None:
        self.budget = budget
        self.smallest = smallest
        self.stage = stage
        self.policy = policy
        self.devices = devices
        by = f" of policy {policy!r}" if policy else ""
        at = f", set by stage {stage}" if stage is not None else ""
        remedy = f"raise the budget to at least {smallest} bytes"
        if stage is not None:
            remedy += ", or make that stage smaller"
        if policy not in (None, "optimal"):
            remedy += ", or use policy 'optimal'"
        least = f"the smallest feasible peak{by}: {smallest} bytes ({smallest / 2**20:.4g} MiB){at}"
        each = f" a device, of {devices}," if devices > 1 else ""
        super().__init__(f"a budget of {budget} bytes ({budget / 2**20:.4g} MiB){each} is below {least}; {remedy}")

    def on(self, devices: int) -> BudgetError:
        """The same, said of one of several devices."""
        return BudgetError(self.budget, self.smallest, self.stage, self.policy, devices)


class StepMemoryError(BudgetError):
    """A whole step takes more than the memory that it was to keep to.

    `budget` and `smallest` are bytes of one device, arguments included; `certificate` tells what takes `smallest`, and
    `remedies` what would help.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> def step(w, x):
        ...     return w - 0.1 * cg.grad(lambda w: jnp.mean((x @ w) ** 2), budget="fit")(w)
        >>> try:
        ...     cg.fit(step, jnp.ones((64, 64)), jnp.ones((64, 64)), memory="16KiB")
        ... except cg.StepMemoryError as error:
        ...     error.smallest > error.budget
        True
    """

    def __init__(self, function: str, limit: int, certificate: Any, taken: Sequence[str], remedies: Sequence[str]) -> None:
        super().__init__(limit, certificate.peak_bytes, devices=certificate.devices)
        self.certificate = certificate
        self.remedies = tuple(remedies)
        each = f" on each of {self.devices} devices" if self.devices > 1 else ""
        helps = f". What would help: {'; '.join(remedies)}" if remedies else ""
        self.args = (
            f"{function} takes at least {self.smallest} bytes ({self.smallest / 2**20:.4g} MiB){each}, and {limit} bytes "
            f"({limit / 2**20:.4g} MiB) were asked for: {', '.join(taken)}{helps}",
        )

    def on(self, devices: int) -> BudgetError:
        """Itself: it is said of one device already."""
        return self


class ScheduleError(CkptgradError, ValueError):
    """A schedule breaks the rules of its actions, or a saved one cannot be read.

    `index` is the position of the offending action and `action` the action itself; None if no single action is at fault.

    Example:
        >>> import ckptgrad as cg
        >>> nonsense = cg.Schedule((cg.Backward(0),), "mine")
        >>> cg.plan(lambda x: x**2, 1.0, policy=nonsense)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ScheduleError: action 0 (B0): ...
    """

    def __init__(self, message: str, index: int | None = None, action: object = None) -> None:
        self.index = index
        self.action = action
        super().__init__(message if index is None else f"action {index} ({action}): {message}")


class MissingRuleError(CkptgradError, NotImplementedError):
    """An operation on the way to the gradient has a primitive without a bprop rule.

    Its message says how to register one.  `primitive` is the name, `source` the user's line or None, `remedies`
    the calls that would give this primitive a rule, with what each does.

    Example:
        >>> from jax.extend.core import Primitive
        >>> import ckptgrad as cg
        >>> unheard_of = Primitive("unheard_of")
        >>> aval = unheard_of.def_abstract_eval(lambda x: x)
        >>> cg.grad(unheard_of.bind)(1.0)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.MissingRuleError: no bprop rule for the primitive 'unheard_of'...
    """

    def __init__(self, primitive: str, source: object = None, remedies: Sequence[str] = ()) -> None:
        self.primitive = primitive
        self.source = source
        self.remedies = tuple(remedies)
        where = f" at {source}" if source is not None else ""
        super().__init__(
            f"no bprop rule for the primitive '{primitive}'{where}. Register one:\n"
            f"    @ckptgrad.bprop_rule('{primitive}')\n"
            f"    def rule(op, *cotangents):  # op.inputs, op.outputs, op.params\n"
            f"        return one_cotangent_per_input  # None where it is zero"
            + "".join(f"\nOr call {remedy}." for remedy in remedies)
        )


class NoDerivativeError(CkptgradError, NotImplementedError):
    """A derivative that is refused on purpose: it does not exist, or JAX refuses it too.

    `primitive` is the name, `source` the user's line or None.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.grad(lambda x: x.at[0].apply(jnp.sin).sum())(jnp.ones(2))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.NoDerivativeError: the primitive 'scatter'...
    """

    def __init__(self, primitive: str, reason: str, source: object = None) -> None:
        self.primitive = primitive
        self.source = source
        where = f" at {source}" if source is not None else ""
        super().__init__(
            f"the primitive '{primitive}'{where} has no derivative: {reason}. Where none should flow, wrap its input in "
            f"jax.lax.stop_gradient; where you know one, give it by jax.custom_jvp or jax.custom_vjp"
        )


class ForeignCodeError(NoDerivativeError, ValueError):
    """A derivative of code that JAX does not see: a callback to Python, or a foreign function.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> like = jax.ShapeDtypeStruct((), jnp.float32)
        >>> cg.grad(lambda x: jax.pure_callback(abs, like, x))(1.0)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ForeignCodeError: the primitive 'pure_callback'...
    """


class ForwardModeError(NoDerivativeError, TypeError):
    """Forward mode through a `jax.custom_vjp` function, whose rule for cotangents need not be linear.

    Example:
        >>> import jax, ckptgrad as cg
        >>> f = jax.custom_vjp(lambda x: x)
        >>> f.defvjp(lambda x: (x, None), lambda _, ct: (ct,))
        >>> cg.jvp(f, (1.0,), (1.0,))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ForwardModeError: the primitive 'custom_vjp_call'...
    """

    def __init__(self, primitive: str, source: object = None) -> None:
        super().__init__(primitive, "can't apply forward-mode autodiff (jvp) to a custom_vjp function", source)


class DuplicateRuleError(CkptgradError, ValueError):
    """A second rule was registered for one primitive."""

    def __init__(self, primitive: str) -> None:
        self.primitive = primitive
        super().__init__(
            f"the primitive '{primitive}' has a bprop rule already; to replace it, first call "
            f"ckptgrad.autodiff.rule.unregister('{primitive}')"
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
        super().__init__(
            f"cannot read the budget {_brief(budget)}: {reason}. Give bytes as an int, or a string such as "
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


class MismatchError(GradientTypeError, ValueError):
    """Tangents or cotangents that do not fit what they belong to: another structure, shape or dtype.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.vjp(jnp.sin, 1.0)[1](jnp.ones(3))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.MismatchError: ...
    """


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
            "use ckptgrad.nnx.value_and_grad or ckptgrad.nnx.grad, which update it as Flax's do (ckptgrad.nnx.pure for the "
            "doors that only look), or nnx.split it, and nnx.merge it inside"
            if nnx
            else "return the new values as well, with has_aux=True"
        )
        super().__init__(
            f"{function} changes an argument of type {kind} in place: {what}. What is differentiated is a copy, so that the "
            f"change would be lost; {remedy}"
        )


class EffectError(CkptgradError, ValueError):
    """A side effect that must happen once stands in a part that the plan runs twice.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> def f(ws, x):
        ...     for w in ws:
        ...         x = jnp.sin(x @ w)
        ...         jax.debug.print("{}", x.mean(), ordered=True)
        ...     return jnp.sum(x)
        >>> cg.grad(f, policy="recompute_all")([jnp.ones((4, 4))] * 8, jnp.ones((64, 4)))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.EffectError: ...
    """


class NestingError(CkptgradError, RecursionError):
    """A function is nested too deeply to be traced, or calls itself without end."""


class OptionError(CkptgradError, ValueError):
    """An option of a door (policy, costs, argnums) that does not exist.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(abs, costs="guess")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.OptionError: ...
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


class ValidationError(CkptgradError, AssertionError):
    """A gradient or a peak differs from its reference by more than allowed.

    `validation` is the whole table.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> @jax.custom_vjp
        ... def square(x):
        ...     return x * x
        >>> square.defvjp(lambda x: (x * x, x), lambda x, ct: (x * ct,))  # for 2 x
        >>> try:
        ...     table = cg.validate(lambda x: jnp.sum(square(x)), jnp.ones(5), locate=True, meters="none")
        ... except cg.ValidationError as error:
        ...     error.validation.findings[0].function
        'square'
    """

    def __init__(self, message: str, validation: object = None) -> None:
        self.validation = validation
        super().__init__(message)


class NotAttachedError(CkptgradError, RuntimeError):
    """A call of what was planned or compiled for devices that are not attached to this process.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.errors.NotAttachedError("NVIDIA H100 80GB HBM3")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.NotAttachedError: ...
    """

    def __init__(self, target: str) -> None:
        super().__init__(
            f"this is planned and compiled for {target}, which is not attached to this process: it can be asked for its "
            f"bytes, and run only there. To run it here, leave target= out"
        )


class StagedError(CkptgradError, TypeError):
    """A gradient with runtime="staged" where it cannot run: inside a transformation, or on several devices.

    Example:
        >>> import jax, ckptgrad as cg
        >>> jax.jit(cg.grad(lambda x: x**2, runtime="staged"))(1.0)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.StagedError: ...
    """

    @classmethod
    def inside_a_transformation(cls) -> StagedError:
        """The error for values that are being traced."""
        return cls(
            "runtime='staged' runs the stages of a gradient one by one from Python, which cannot be inside jax.jit, "
            "jax.vmap or another transformation: call the gradient outside of it, jit what comes before and after, or use "
            "runtime='compiled'"
        )


class LedgerError(CkptgradError, RuntimeError):
    """A gradient that runs stage by stage would hold more bytes than is certified; it stops before it does.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.errors.LedgerError("96 bytes are held, and 64 more are needed, of 128 that are allowed")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.LedgerError: 96 bytes are held, and 64 more are needed, of 128 that are allowed
    """


class TierError(CkptgradError, RuntimeError):
    """A tier cannot keep what is sent to it, or does not return what it kept; the gradient is not computed.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(abs, runtime="staged", tiers=["tape:1GiB"])
        Traceback (most recent call last):
        ...
        ckptgrad.errors.TierError: 'tape:1GiB' is not a tier; ...
    """


class ProcessesError(CkptgradError, RuntimeError):
    """Processes that share a program do different things, or one of them cannot go on.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.errors.ProcessesError("process 0 plans within 1 GiB, process 1 within 2 GiB")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ProcessesError: process 0 plans within 1 GiB, process 1 within 2 GiB
    """


class MissingExtraError(CkptgradError):
    """A part of ckptgrad needs a package that is not installed.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.MissingExtraError("compiling for an H100", "XLA's GPU compiler", "gpu-target")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.MissingExtraError: ... pip install 'ckptgrad[gpu-target]'
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: pip install 'ckptgrad[{extra}]'")
