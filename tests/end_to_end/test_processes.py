"""Several processes that share a mesh: one plan for all of them, within the budget of the fullest, or a clear error."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.costs import probes
from ckptgrad.errors import ProcessesError
from ckptgrad.target.target import Target
from tests.cases.devices import WAYS
from tests.support.processes import on_processes

W = 0.1 * np.eye(64, dtype=np.float32)
X = np.linspace(-1, 1, 512 * 64, dtype=np.float32).reshape(512, 64)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


def mapped(ws, x):
    """As `loss`; the mesh stands in the function alone."""

    def local(ws, x):
        return jax.lax.pmean(loss(ws, x), "d")

    return jax.shard_map(local, mesh=mesh(), in_specs=(P(), P("d")), out_specs=P())(ws, x)


def mesh():
    return jax.make_mesh((jax.device_count(),), ("d",), axis_types=(AxisType.Auto,))


def laid_out(x, *spec):
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh(), P(*spec)), lambda k: x[k])


def arguments(depth=6):
    return [laid_out(W)] * depth, laid_out(X, "d")


def show(compiled) -> None:
    plan = (compiled.plan.schedule.actions, compiled.plan.fenced, compiled.plan.costs, compiled.memory, compiled.budget)
    print(hashlib.sha256(repr(plan).encode()).hexdigest())


def check_same_plan(*budgets, costs="auto") -> None:
    args = arguments()
    for budget in budgets:
        compiled = cg.value_and_grad(loss, budget=budget, costs=costs).compile(*args)
        assert compiled.budget is None or compiled.peak_bytes <= compiled.budget
        show(compiled)
        value, gradient = compiled(*args)
        # Whole arrays that all processes have; each computes it on its own.
        wanted = jax.value_and_grad(loss)([W] * 6, X)
        np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
        np.testing.assert_allclose(gradient[0].addressable_data(0), wanted[1][0], rtol=1e-4, atol=1e-6)


def check_unequal_hosts() -> None:
    """The compiler of the last process takes a third more, its probes more still, and each has another memory."""
    last = jax.process_index() == jax.process_count() - 1
    allocated, figures = Target.allocated, probes.Figures
    args = arguments()
    budget = int(1.2 * cg.value_and_grad(loss, budget="min").compile(*args).peak_bytes)
    before = cg.value_and_grad(loss, budget=budget).compile(*args)
    if last:

        def more(target, executable):
            memory = allocated(target, executable)
            return memory.__class__(memory.temporary_bytes + (1 << 14), *list(vars(memory).values())[1:])

        Target.allocated = more
        probes.Figures = lambda taken, seconds: figures(2 * taken, seconds)
    Target.free_bytes = lambda target, arguments=0: budget + (1 << 14) + jax.process_index()
    compiled = cg.value_and_grad(lambda ws, x: loss(ws, x), budget="auto").compile(*args)
    assert compiled.budget == budget + (1 << 14)
    assert compiled.peak_bytes <= compiled.budget
    assert compiled.peak_bytes >= before.peak_bytes
    show(compiled)


def check_a_mesh_inside() -> None:
    """Nothing but the function says that others take part: each process gives it whole arrays."""
    show(cg.value_and_grad(mapped, budget="min").compile([W] * 4, X))


def check_disagreement() -> None:
    number = jax.process_index()
    with pytest.raises(ProcessesError, match=r"budget='0\.9x'.*budget='0\.8x'"):
        cg.value_and_grad(loss, budget="0.9x" if number == 0 else "0.8x").compile(*arguments())
    with pytest.raises(ProcessesError, match=r"in \d+ stages.*in \d+ stages"):
        cg.value_and_grad(loss).compile(*arguments(6 + number))
    with pytest.raises(ProcessesError, match="the program whose text"):
        cg.value_and_grad(lambda ws, x: loss(ws, x) * (1 + number)).compile(*arguments())
    with pytest.raises(cg.BudgetError):
        cg.value_and_grad(loss, budget=1000).compile(*arguments())


def check_while_tracing() -> None:
    """Where nobody tells the others, plans are made of estimates, and nothing else is taken."""
    where = tuple(jax.tree.map(lambda a: a.sharding, arguments()))
    for options in ({"budget": "auto"}, {"costs": "measure"}, {"costs": "compile"}):
        with pytest.raises(cg.OptionError, match=r"use \.compile, where they agree"):
            jax.jit(cg.value_and_grad(loss, shardings=where, **options))(*arguments())
    value, _ = jax.jit(cg.value_and_grad(loss, shardings=where, budget="0.5x"))(*arguments())
    np.testing.assert_allclose(value, loss([W] * 6, X), rtol=1e-5)


def check_way(way: str) -> None:
    """Gradients are those of `jax.value_and_grad`, in their shardings, as far as this process has them."""
    jax.config.update("jax_enable_x64", True)
    fun, args = WAYS[way]()
    wanted = jax.tree.leaves(jax.jit(jax.value_and_grad(fun, (0, 1)))(*args))
    for budget in ("min", None):
        compiled = cg.value_and_grad(fun, (0, 1), budget=budget).compile(*args)
        show(compiled)
        for found, w in zip(jax.tree.leaves(compiled(*args)), wanted, strict=True):
            assert found.sharding.is_equivalent_to(w.sharding, w.ndim)
            for a, b in zip(found.addressable_shards, w.addressable_shards, strict=True):
                np.testing.assert_allclose(a.data, b.data, rtol=1e-12, atol=1e-12)


def check_validation() -> None:
    """Whole gradients are compared, of which each process has a part."""
    fun, args = WAYS["sharded parameters"]()
    with pytest.raises(cg.OptionError, match="meters observe one process"):
        cg.validate(fun, *args)
    table = cg.validate(fun, *args, budget="min", meters=(), repeats=1)
    assert table.passed
    print([row.gradient for row in table.rows])


def check_alone() -> None:
    """What one process does for itself the others need not know of."""
    if jax.process_index() == 0:
        cg.value_and_grad(loss, budget="min").compile([W] * 4, X)


def check_rates() -> None:
    """Each measures, on its own clock."""
    print(cg.calibrate())


def assert_same(outputs: list[str]) -> None:
    first, *others = (out.splitlines() for out in outputs)
    assert len(first) > 1
    for other in others:
        assert other == first


def test_two_processes_compile_one_plan_or_say_why_not():
    assert_same(on_processes(2, __name__, "check_same_plan('0.5x'); check_disagreement()"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["data x tensor", "sharded parameters", "pipeline", "a mapped loss", "explicit, scanned"])
def test_processes_that_share_a_model(way):
    assert_same(on_processes(2, __name__, f"check_way({way!r})", devices=4, timeout=300))


@pytest.mark.slow
def test_processes_validate_together():
    assert_same(on_processes(2, __name__, "check_validation()", devices=4, timeout=300))


@pytest.mark.slow
def test_what_processes_see_differently_decides_for_all_or_for_none():
    calls = "check_alone(); check_unequal_hosts(); check_a_mesh_inside(); check_while_tracing(); check_rates()"
    assert_same(on_processes(2, __name__, f"{calls}; check_same_plan('min', costs='measure')", devices=2, timeout=400))


@pytest.mark.slow
def test_four_processes_compile_one_plan_for_every_budget():
    assert_same(on_processes(4, __name__, "check_same_plan(None, '0.6x', '0.5x', 'min', 'auto')", timeout=400))
