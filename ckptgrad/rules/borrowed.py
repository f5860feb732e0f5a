"""Rules borrowed from JAX, one primitive at a time and only where the user asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import dtypes
from jax.extend.core import Primitive
from jax.interpreters import ad

from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import Application, Rule, register, registered, remedy
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Graph, Operation
from ckptgrad.graph.traits import CostClass
from ckptgrad.graph.work import inner_programs
from ckptgrad.rules.decorators import checked_class, instantiate, name_of


def use_jax_rule(primitive: Primitive | str, *, cost: CostClass | None = None) -> None:
    """Differentiate one primitive by JAX's own rule, in both modes.

    The results are then no independent check of JAX's for that primitive: plans and validations
    name it as borrowed.

    Args:
        primitive: the primitive or its name.
        cost: its class of cost, as for `bprop_rule`.

    Raises:
        DuplicateRuleError: the primitive has a rule already.
        OptionError: there is no such class of cost.

    Example:
        >>> import ckptgrad as cg
        >>> from jax.extend.core import Primitive
        >>> from jax.interpreters import ad, mlir
        >>> thrice = Primitive("thrice")
        >>> aval = thrice.def_abstract_eval(lambda x: x)
        >>> mlir.register_lowering(thrice, mlir.lower_fun(lambda x: 3 * x, multiple_results=False))
        >>> ad.deflinear(thrice, lambda ct: [3 * ct])
        >>> cg.use_jax_rule("thrice")
        >>> float(cg.grad(thrice.bind)(1.0))
        3.0
    """
    checked_class(cost)
    reason = "JAX's rule, by use_jax_rule"
    register(Rule(name_of(primitive), "borrowed", bprop=_bprop, tangent=_tangent, reason=reason, cost=cost))


@remedy
def _rule_of_jax(op: Operation) -> str | None:
    if op.primitive not in ad.primitive_jvps:
        return None
    return f"ckptgrad.use_jax_rule('{op.name}'), which borrows JAX's rule"


def borrowed_in(graph: Graph) -> list[str]:
    """The primitives of a graph, or of programs inside it, that are differentiated by JAX's rule."""
    borrowed = {name for name, rule in registered().items() if rule.kind == "borrowed"}
    if not borrowed:
        return []
    names = {op.name for op in graph.operations}
    programs = [j for op in graph.operations for j in inner_programs(op.params)]
    while programs:
        program = programs.pop()
        names.update(eqn.primitive.name for eqn in program.eqns)
        programs += [j for eqn in program.eqns for j in inner_programs(eqn.params)]
    return sorted(names & borrowed)


def _of_needed(op: Application) -> tuple[Any, list[Any]]:
    """The operation as a function of the inputs that are differentiated, and these."""
    places = [i for i, n in enumerate(op.needs) if n]

    def fun(*xs: Any) -> Any:
        inputs = list(op.inputs)
        for i, x in zip(places, xs, strict=True):
            inputs[i] = x
        return apply(op.op, inputs)

    return fun, [op.inputs[i] for i in places]


def _bprop(op: Application, *cotangents: Any) -> list[Any]:
    fun, primals = _of_needed(op)
    seeds = [
        instantiate(ct, a) if is_differentiable(a) else np.zeros(a.shape, dtypes.float0)
        for ct, a in zip(cotangents, op.out_avals, strict=True)
    ]
    gradients = iter(jax.vjp(fun, *primals)[1](seeds))
    return [next(gradients) if n else None for n in op.needs]


def _tangent(op: Application, *tangents: Any) -> Sequence[Any]:
    fun, primals = _of_needed(op)
    _, pushed = jax.jvp(fun, primals, [t for t in tangents if t is not None])
    return [t if is_differentiable(a) else None for t, a in zip(pushed, op.out_avals, strict=True)]
