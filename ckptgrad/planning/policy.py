"""The registry of policies: a policy turns costs and a budget into a schedule.

A policy is any function of (ChainCosts, budget in bytes or None); None asks for the policy's natural plan. A
budget bounds the whole peak, `held_bytes` included. Laws: the schedule passes `simulate`; its simulated peak
is within the budget; a budget below what the policy can reach raises BudgetError with the smallest peak that
it can.
To add one: put a file with an `@policy(...)` function into `policies/`; it is discovered from there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, cast

from ckptgrad.errors import OptionError
from ckptgrad.interactive import is_defined_again
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Schedule

Policy: TypeAlias = Callable[[ChainCosts, int | None], Schedule]


@dataclass(frozen=True)
class Registration:
    """A policy under its name, with the publications that it follows."""

    name: str
    run: Policy
    references: tuple[str, ...]


class PolicyError(OptionError):
    """A policy's name is unknown or taken."""


_REGISTRY: dict[str, Registration] = {}


def policy(name: str, references: tuple[str, ...] = ()) -> Callable[[Policy], Policy]:
    """Register the decorated function as policy `name`, for `policy="name"` in every door and command.

    Args:
        name: how it is asked for.
        references: the publications that it follows.

    Raises:
        PolicyError: the name is taken; a notebook's cell may be run again.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> @cg.policy("all of it")
        ... def keeps_all(costs, budget=None):
        ...     n = len(costs)
        ...     there = [cg.Forward(i, keep=costs.stages[i].fastest) for i in range(n)]
        ...     back = [action for i in reversed(range(n)) for action in (cg.Backward(i), cg.Free(i))]
        ...     return cg.Schedule((*there, *back), "all of it")
        >>> cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(8), policy="all of it").schedule.recomputations
        0
    """

    def register(run: Policy) -> Policy:
        known = _REGISTRY.get(name)
        if known is not None and not is_defined_again(known.run, run):
            raise PolicyError(
                f"policy {name!r} is registered already; choose another name, or first call "
                f"ckptgrad.planning.policy.unregister({name!r})"
            )
        _REGISTRY[name] = Registration(name, run, tuple(references))
        return run

    return register


def unregister(name: str) -> None:
    """Forget a policy, so that another one may take its name."""
    _REGISTRY.pop(name, None)


def registered() -> dict[str, Registration]:
    """All policies by name, in the order of their names."""
    _discover()
    return dict(sorted(_REGISTRY.items()))


def get_policy(name: str | Policy) -> Policy:
    """The policy called `name`; a callable is a policy already."""
    if callable(name):
        return name
    _discover()
    if not isinstance(cast("object", name), str) or name not in _REGISTRY:
        known = ", ".join(sorted(_REGISTRY))
        raise PolicyError(f"no policy is called {name!r}; there are {known}, or pass a function")
    return _REGISTRY[name].run


@cache
def _discover() -> None:
    folder = importlib.import_module("ckptgrad.planning.policies")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
