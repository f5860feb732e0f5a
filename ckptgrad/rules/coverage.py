"""Which primitives are differentiated, which are not, and which are refused."""

from __future__ import annotations

from dataclasses import dataclass

from jax.extend.core import Primitive, primitives

from ckptgrad.autodiff.rule import KINDS, registered

MISSING = "missing"


@dataclass(frozen=True)
class Coverage:
    """One primitive.

    Attributes:
        primitive: its name.
        status: "differentiated", "zero", "refused" or "missing".
        how: how its rule is written, why it is refused, or what to do.
        public: whether `jax.extend.core.primitives` lists it.
    """

    primitive: str
    status: str
    how: str
    public: bool


def public_primitives() -> list[str]:
    """The names of the primitives that the installed JAX publishes."""
    published = (getattr(primitives, name) for name in dir(primitives))
    return sorted(p.name for p in published if isinstance(p, Primitive))


def coverage() -> list[Coverage]:
    """A row for each primitive that JAX publishes or that has a rule, by name."""
    rules, public = registered(), set(public_primitives())
    rows = []
    for name in sorted(public | set(rules)):
        rule = rules.get(name)
        if rule is None:
            rows.append(Coverage(name, MISSING, "register a rule with ckptgrad.bprop_rule", True))
            continue
        status, _, how = KINDS[rule.kind].partition(": ")
        rows.append(
            Coverage(name, rule.kind if rule.kind == "zero" else status, rule.reason or how or status, name in public)
        )
    return rows
