"""The policies under test: one row buys the referee, the budget's laws and, where `long`, 10,000 stages."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.planning import Policy, get_policy
from ckptgrad.planning.policies.every_k import every_k


@dataclass(frozen=True)
class Row:
    """`name` is the policy's; `long` tells whether it plans 10,000 different stages at once."""

    name: str
    long: bool = True
    made: Policy | None = None

    @property
    def policy(self) -> Policy:
        return self.made or get_policy(self.name)


ROWS = [
    Row("store_all"),
    Row("recompute_all"),
    Row("every_k"),
    Row("every_k(3)", made=every_k(3)),
    Row("sqrt"),
    Row("revolve"),
    Row("uniform"),
    Row("rotor", long=False),
    Row("optimal", long=False),
]
