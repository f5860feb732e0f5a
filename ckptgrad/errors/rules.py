"""What differentiation raises: a primitive has no rule, or no derivative."""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.errors.base import CkptgradError


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


class InexactDerivativeError(NoDerivativeError):
    """A derivative of a gradient that was made from values which are kept rounded (`encodings=`)."""

    def __init__(self) -> None:
        NotImplementedError.__init__(
            self,
            "the derivative of this gradient would be wrong: it was made from values that are kept rounded to steps, which "
            "have none; leave int8 and float8 out of the encodings of the gradient that is differentiated",
        )
        self.primitive, self.source = "round", None


class DuplicateRuleError(CkptgradError, ValueError):
    """A second rule was registered for one primitive."""

    def __init__(self, primitive: str) -> None:
        self.primitive = primitive
        super().__init__(
            f"the primitive '{primitive}' has a bprop rule already; to replace it, first call "
            f"ckptgrad.autodiff.rule.unregister('{primitive}')"
        )
