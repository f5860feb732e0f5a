# pyright: reportUnknownMemberType=false
"""Which derivative rule belongs to which primitive.

A rule maps cotangents of the outputs of an operation to cotangents of its inputs (`bprop`), or
tangents of the inputs to tangents of the outputs (`tangent`); the other direction follows by
transposition.  A rule that replaces the forward evaluation as well (custom rules, control flow) has
a `pullback`.  `rules/` fills the registry; a user registers through the same decorators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.cotangent import Entry, force
from ckptgrad.errors import DuplicateRuleError, ForeignCodeError, MissingRuleError, NoDerivativeError
from ckptgrad.graph.atoms import Array, Aval, Variable
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.traits import CostClass, state_class
from ckptgrad.interactive import is_defined_again

if TYPE_CHECKING:
    from ckptgrad.graph.graph import Operation

# From cotangents of the outputs of an operation to entries for its inputs.
Pull: TypeAlias = Callable[..., Sequence[Entry]]
# Outputs of an operation, with the function that pulls their cotangents back, or with their tangents.
WithPull: TypeAlias = tuple[Sequence[Array], Pull]
WithTangents: TypeAlias = tuple[Sequence[Array], Sequence[Array | None]]


@dataclass
class Application:
    """What a rule sees of one operation.

    Attributes:
        op: the operation (its `params`, the avals of inputs and outputs).
        inputs: the values of its inputs, as arrays: a Python number gets the dtype that the operation gave it.
        outputs: the values of its outputs.
        needs: for each input, whether its cotangent is needed.
        linear: whether the operation belongs to a function that is linear in those inputs, whose
            values are then not known.
        planned: whether a plan will say how a loop is reversed: what it stores, and what it computes again.
        used: for each output, whether its tangent is read, or it gets a cotangent; None: all.
    """

    op: Operation
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    needs: Sequence[bool]
    linear: bool = False
    planned: bool = False
    used: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        pairs = zip(self.inputs, self.in_avals, strict=True)
        self.inputs = [np.array(x, a.dtype) if isinstance(x, (bool, int, float, complex)) else x for x, a in pairs]

    @property
    def params(self) -> dict[str, Any]:
        return self.op.params

    @property
    def out(self) -> Array:
        """The value of the only output."""
        return self.outputs[0]

    @property
    def in_avals(self) -> list[Aval]:
        return [a.aval for a in self.op.inputs]

    @property
    def out_avals(self) -> list[Aval]:
        return [v.aval for v in self.op.outputs]

    @property
    def used_outputs(self) -> Sequence[bool]:
        """For each output, whether its tangent is read, or it gets a cotangent."""
        return [True] * len(self.op.outputs) if self.used is None else self.used


@dataclass(frozen=True)
class Rule:
    """A derivative rule, by the name of its primitive.

    Attributes:
        kind: how it was written (a key of `KINDS`).
        bprop: `bprop(application, *cotangents)` returns one entry per input: a cotangent, None for
            zero, or a function of no arguments that is called only where the cotangent is needed.
            A cotangent of an output to which nothing flowed back is None (operations with several
            outputs only).
        pullback: `pullback(application)` returns (outputs, function from cotangents to entries).
        tangent: `tangent(application, *tangents)` returns one tangent per output, None for zero;
            a tangent of an input that is not differentiated is None.
        push: `push(application, *tangents)` returns (outputs, tangents): forward mode of a rule
            with a pullback.  A tangent that is not used may be None.
        partials: derivatives of an elementwise primitive, one per argument.
        reason: why the derivative is refused, or where it comes from.
        cost: the primitive's class of cost (`graph.traits`); None leaves what was stated before.
        foreign: it is refused because JAX does not see the code.
    """

    primitive: str
    kind: str
    bprop: Callable[..., Sequence[Entry]] | None = None
    pullback: Callable[..., WithPull] | None = None
    tangent: Callable[..., Sequence[Array | None]] | None = None
    push: Callable[..., WithTangents] | None = None
    partials: tuple[Callable[..., Array] | None, ...] | None = None
    reason: str = ""
    cost: CostClass | None = None
    foreign: bool = False

    @property
    def is_zero(self) -> bool:
        return self.kind == "zero"


KINDS = {
    "bprop": "differentiated: cotangents to cotangents",
    "elementwise": "differentiated: a derivative for each argument",
    "linear": "differentiated: linear, by its transpose",
    "tangent": "differentiated: tangents to tangents, transposed for reverse mode",
    "pullback": "differentiated: with its own forward pass",
    "defined": "differentiated: by a definition through other primitives",
    "inlined": "differentiated: inlined while tracing",
    "borrowed": "differentiated: by JAX's own rule",
    "zero": "no derivative flows",
    "refused": "refused",
}


_RULES: dict[str, Rule] = {}
_CHANGES: list[str] = []


def generation() -> int:
    """A number that grows with every change of the rules; what was derived under a smaller one is stale."""
    return len(_CHANGES)


def register(rule: Rule) -> None:
    """Add a rule; a second one for the same primitive is an error, unless a notebook's cell is run again."""
    known = _RULES.get(rule.primitive)
    if known is not None and not is_defined_again(known.bprop, rule.bprop):
        raise DuplicateRuleError(rule.primitive)
    _RULES[rule.primitive] = rule
    if rule.cost is not None:
        state_class(rule.primitive, rule.cost)
    _CHANGES.append(rule.primitive)


def unregister(primitive: str) -> Rule | None:
    """Remove and return the rule of a primitive (to replace it in an interactive session); its class of cost stays."""
    rule = _RULES.pop(primitive, None)
    if rule is not None:
        _CHANGES.append(primitive)
    return rule


def registered() -> dict[str, Rule]:
    """All rules by the name of their primitive."""
    return dict(_RULES)


# Ways to give a primitive a rule without writing one: from an operation to a call and what it does, or None.
_REMEDIES: list[Callable[[Operation], str | None]] = []


def remedy(advice: Callable[[Operation], str | None]) -> Callable[[Operation], str | None]:
    """Have a missing rule's error offer what `advice` says about the operation, where that would work."""
    _REMEDIES.append(advice)
    return advice


def rule_for(op: Operation) -> Rule:
    """The rule of an operation.

    Raises:
        MissingRuleError: naming the primitive and the user's line.
        NoDerivativeError: the derivative is refused on purpose.
    """
    rule = _RULES.get(op.name)
    if rule is None:
        raise MissingRuleError(op.name, op.source, [call for advice in _REMEDIES if (call := advice(op))])
    if rule.kind == "refused":
        raise (ForeignCodeError if rule.foreign else NoDerivativeError)(op.name, rule.reason, op.source)
    return rule


def is_zero(op: Operation) -> bool:
    """Whether no derivative flows through the operation, whatever its inputs."""
    rule = _RULES.get(op.name)
    return rule is not None and rule.is_zero


def apply_bprop(op: Operation, inputs: Sequence[Array], X: Variable, G: Any) -> Array | None:
    """`Operation.bprop`: the sum of contributions to every input that is X."""
    rule = rule_for(op)
    if rule.is_zero:
        return None
    needs = [a is X for a in op.inputs]
    cotangents = [jnp.asarray(g) for g in (cast(Sequence[Array], G) if isinstance(G, (tuple, list)) else (G,))]
    inputs = [jnp.asarray(x) for x in inputs]
    if rule.pullback is not None:
        _, pull = rule.pullback(Application(op, inputs, (), needs))
        entries = pull(*cotangents)
    else:
        assert rule.bprop is not None
        entries = rule.bprop(Application(op, inputs, apply(op, inputs), needs), *cotangents)
    total = None
    for needed, entry in zip(needs, entries, strict=True):
        contribution = force(entry) if needed else None
        if contribution is not None:
            total = contribution if total is None else total + contribution
    return total
