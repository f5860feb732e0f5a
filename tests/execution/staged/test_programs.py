"""Programs of staged gradients: compiled once, given what they may write over."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.execution.staged.programs import donations, ready
from ckptgrad.execution.staged.recorded import record
from tests.cases.tanh import tanh_arguments, tanh_loss


def orders(layers, policy="recompute_all"):
    plan = cg.plan(tanh_loss, *tanh_arguments(16, 64, layers=layers), policy=policy)
    return plan.program.target, record(plan.program, plan.schedule).orders


def test_the_number_of_programs_does_not_depend_on_the_number_of_stages():
    (_, few), (_, many) = orders(8), orders(40)
    assert len(many) > 3 * len(few)
    assert len({*many}) == len({*few})


def test_a_program_is_compiled_once():
    target, first = orders(6)
    assert all(
        a.executable is b.executable
        for a, b in zip(ready(first, target).values(), ready(first, target).values(), strict=True)
    )


def test_what_the_compiler_writes_over_is_what_was_donated():
    target, made = orders(6, "revolve")
    donated = 0
    for order, program in ready(made, target).items():
        operands = order.work.operands()
        assert program.overwritten_bytes == sum(operands[k].size * operands[k].dtype.itemsize for k in order.donated)
        donated += len(order.donated)
    assert donated


def test_only_as_many_operands_are_donated_as_there_are_results_of_their_type():
    a, b = jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.float32)
    plan = cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(3))
    (x,) = plan.program.graph.inputs
    assert donations([a, a, b], [0, 1, 2], [x]) == (0,)
    assert donations([a, a, b], [1, 2], [x]) == (1,)
    assert donations([b], [0], [x]) == ()
