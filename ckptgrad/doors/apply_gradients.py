# pyright: reportUnknownMemberType=false
"""The door `apply_gradients`: a parameter is updated as soon as its gradient is complete."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ckptgrad.bytes import Budget
from ckptgrad.chain.cutting import Ways
from ckptgrad.doors.calling import check_runs
from ckptgrad.doors.choosing import best_plan
from ckptgrad.doors.compiling import check_planned
from ckptgrad.doors.gradient import GradientFunction, chain_of_program, program_of
from ckptgrad.doors.leaves import NUMBERS
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.doors.watching import tell
from ckptgrad.errors import GradientTypeError, OptionError
from ckptgrad.execution.interpreter import Execution, split_at_backward
from ckptgrad.execution.leaf_updates import LeafUpdates, split_update
from ckptgrad.graph.naming import name_of
from ckptgrad.graph.trace import trace
from ckptgrad.graph.value_types import cotangent_type, filled
from ckptgrad.planning.policy import Policy
from ckptgrad.planning.schedule import Backward, Schedule
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.target.named import TargetChoice


class Optimizer(Protocol):
    """What an optimizer must have: `optax.GradientTransformation` has it."""

    def update(self, updates: Any, state: Any, params: Any, /) -> tuple[Any, Any]:
        """From gradients, state and parameters to what is added to the parameters, and the new state."""
        ...


class UpdateFunction:
    """A function that returns parameters and optimizer state after one step, and the value; made by `apply_gradients`."""

    def __init__(self, loss: Callable, optimizer: Optimizer, request: Request) -> None:
        if not callable(getattr(optimizer, "update", None)):
            raise OptionError(
                f"the optimizer is {optimizer!r}, without a method update(gradients, state, params); give one of optax, or "
                f"like those"
            )
        if request.runtime != "compiled":
            raise OptionError(f"runtime={request.runtime!r}: gradients are consumed inside one program; leave it out")
        self.fun, self.request = loss, request
        self._optimizer, self._gradient = optimizer, GradientFunction(loss, request, with_value=True)
        functools.update_wrapper(self, loss, updated=())
        self.__name__ = name_of(loss)

    def __call__(self, params: Any, opt_state: Any, *args: Any, **kwargs: Any) -> Any:
        chains = self._chains(params, *args, **kwargs)
        call = chains.finest.call
        check_runs(chains.finest.program.target, call.leaves)
        updates = self._updates(chains.finest, opt_state)
        plan = best_plan(chains.map(program_of), self.request)
        tell(plan)
        chain = chain_of_program(plan.program, chains)
        check_planned(self.fun, plan, chain.program)
        return _Step(chain, plan, updates).run()

    def plan(self, params: Any, opt_state: Any, *args: Any, **kwargs: Any) -> Plan:
        """What will be stored and recomputed for these arguments (arrays or ShapeDtypeStructs)."""
        chains = self._chains(params, *args, **kwargs)
        self._updates(chains.finest, opt_state)
        return best_plan(chains.map(program_of), self.request)

    def _chains(self, *args: Any, **kwargs: Any) -> Ways[TracedChain]:
        return self._gradient.chains(*args, **kwargs).map(_consuming)

    def _updates(self, chain: TracedChain, opt_state: Any) -> _Updates:
        call = chain.call
        (params,) = call.primals
        names = [call.names[k] for k in call.selected]
        states = [jnp.asarray(x) if isinstance(x, NUMBERS) else x for x in jax.tree.leaves(opt_state)]
        values = [call.leaves[k] for k in call.selected]
        tree, state_tree = jax.tree.structure(params), jax.tree.structure(opt_state)
        after: list[Any] = []

        def update(gradients: list[Any], params: list[Any], state: list[Any]) -> list[Any]:
            params_, state_ = jax.tree.unflatten(tree, params), jax.tree.unflatten(state_tree, state)
            changes, new_state = self._optimizer.update(jax.tree.unflatten(tree, gradients), state_, params_)
            changed = jax.tree.structure(changes, is_leaf=_is_none)
            if changed != jax.tree.structure(params_, is_leaf=_is_none):
                raise GradientTypeError(
                    f"the optimizer's update must be structured as the parameters, {tree}, not as {changed}"
                )
            new = jax.tree.map(_changed, params_, changes, is_leaf=_is_none)
            after[:] = [jax.tree.structure(new_state)]
            return [*jax.tree.leaves(new), *jax.tree.leaves(new_state)]

        # A gradient is typed as what it belongs to.
        graph = trace(update, values, values, states)
        split = split_update(graph, names, type(self._optimizer).__name__)
        return _Updates(split, [*values, *states], tree, after[0])


@dataclass(frozen=True)
class _Updates:
    """An update in parts, what it reads besides gradients, and the structures of what it makes."""

    split: LeafUpdates
    values: list[Any]
    params_tree: Any
    state_tree: Any


def _is_none(x: Any) -> bool:
    return x is None


def _changed(param: Any, change: Any) -> Any:
    """As `optax.apply_updates`: a parameter keeps its dtype."""
    return param if change is None else jnp.asarray(param + change).astype(jnp.asarray(param).dtype)


def _consuming(chain: TracedChain) -> TracedChain:
    return replace(chain, program=replace(chain.program, consumed=True))


@dataclass(frozen=True)
class _Step:
    """One step of a call by a plan."""

    chain: TracedChain
    plan: Plan
    updates: _Updates

    def run(self) -> Any:
        """(params, state, value), with aux as the function has it."""
        program, updates = self.chain.program, self.updates
        execution = Execution(program, self.chain.call.leaves, self.plan.isolation)
        forward, backward = split_at_backward(self.plan.schedule)
        execution.run(forward)
        execution.seed([filled(cotangent_type(v.aval), 1) for v in program.seeds])
        env = updates.split.start(updates.values)
        place = {v: k for k, v in enumerate(program.wrt)}
        left = dict(place)

        def consume(v: Any) -> None:
            k = left.pop(v)
            env.update(execution.consume(v, lambda ct, isolation: updates.split.update(k, ct, env, isolation)))

        for action in backward:
            execution.run([action])
            if isinstance(action, Backward):
                for v in program.completed[action.stage]:
                    consume(v)
        for v in [*left]:
            consume(v)
        results = updates.split.results(env)
        count = updates.params_tree.num_leaves
        params = jax.tree.unflatten(updates.params_tree, results[:count])
        state = jax.tree.unflatten(updates.state_tree, results[count:])
        value, aux = self.chain.restore([execution.output(a) for a in self.chain.graph.outputs])
        return params, state, ((value, aux) if self.chain.has_aux else value)


def apply_gradients(
    loss: Callable,
    optimizer: Optimizer,
    has_aux: bool = False,
    *,
    budget: Budget = None,
    policy: str | Policy | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
    shardings: Any = None,
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
) -> UpdateFunction:
    """A function that takes one step of an optimizer, in which each gradient is used, and freed, as soon as it is complete.

    At no moment all gradients are held, nor planned for: a parameter is updated right after the backward of the first layer
    that reads it. For optimizers that need nothing but a parameter's own gradient and state to update it, as sgd,
    adam, adamw, lion, rmsprop and adafactor of optax do; that is proved from the operations of the update. Donate parameters
    and state to the `jax.jit` or `ckptgrad.fit` around it: these are then written in place.

    Args:
        loss: a function of parameters and whatever else, to a scalar, or (scalar, aux) with `has_aux`.
        optimizer: `optax.GradientTransformation`, or what has an `update(gradients, state, params)` like that.
        has_aux: whether `loss` returns a pair whose second entry is passed through.
        budget: bytes that the step may hold beyond its arguments and what is written over them, as for `value_and_grad`;
            "fit" inside `ckptgrad.fit`.
        policy, saveable, costs, target, shardings, encodings, chunks: as for `value_and_grad`.

    Returns:
        A function (params, opt_state, *args) -> (params, opt_state, value), or (params, opt_state, (value, aux)); it also
        has `.plan(params, opt_state, *args)`.

    Raises:
        OptionError: at once for something without `update`; when called, if the update of a parameter depends on several
            gradients, as with clipping by their global norm: names them.
        BudgetError, GradientTypeError: when called, as for `value_and_grad`.

    Example:
        >>> import jax.numpy as jnp, optax, ckptgrad as cg
        >>> step = cg.apply_gradients(lambda w: jnp.sum(w**2), optimizer := optax.sgd(0.25))
        >>> w, state, loss = step(jnp.ones(2), optimizer.init(jnp.ones(2)))
        >>> w.tolist(), float(loss)
        ([0.5, 0.5], 2.0)
    """
    request = Request(
        has_aux=has_aux,
        budget=budget,
        policy=policy,
        saveable=saveable,
        costs=costs,
        target=target,
        shardings=shardings,
        encodings=encodings,
        chunks=chunks,
    )
    return UpdateFunction(loss, optimizer, request)
