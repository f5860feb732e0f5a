"""Programs of staged gradients: compiled once, given what they may write over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution.staged.programs import Order, donations, overwritable, ready
from ckptgrad.execution.staged.recorded import record
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.compare import assert_same


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


def test_what_is_written_over_takes_no_more_than_new_buffers_would():
    target, made = orders(6, "revolve")
    programs = ready(made, target)
    assert sum(program.overwritten_bytes for program in programs.values())
    for order, program in programs.items():
        assert program.added_bytes <= ready([replace(order, free=())], target)[replace(order, free=())].added_bytes
        assert program.overwritten_bytes <= target.total_bytes(order.work.results())


def test_of_two_operands_the_one_is_written_over_that_is_not_copied_first():
    """Of tanh(x @ w) that is the cotangent, which is read before the product is made."""
    target, made = orders(6, "revolve")
    ambiguous = [order for order in made if len(donations(order)) > 1]
    assert ambiguous
    for order in ambiguous:
        alone = [ready([replace(order, free=free)], target)[replace(order, free=free)] for free in donations(order)]
        assert ready([order], target)[order].added_bytes == min(program.added_bytes for program in alone)


def test_stages_that_call_different_functions_of_python_share_no_program():
    """The text of both is the same: it numbers callbacks, and does not name them."""

    def loss(x, numbers=(2.0, 3.0)):
        for number in numbers:
            like = jax.ShapeDtypeStruct(x.shape, x.dtype)
            x = jnp.tanh(x) * jax.lax.stop_gradient(
                jax.pure_callback(lambda x, number=number: x * np.float32(number), like, jax.lax.stop_gradient(x))
            )
        return jnp.sum(x)

    x = jnp.linspace(0.5, 1.0, 3)
    assert_same(cg.grad(loss, runtime="staged").compile(x)(x), jax.grad(loss)(x), scale=10)


@dataclass(frozen=True)
class Made:
    """Work of operands and results of given types."""

    given: tuple
    made: tuple

    def operands(self):
        return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in self.given]

    def results(self):
        return [SimpleNamespace(aval=jax.ShapeDtypeStruct(shape, jnp.float32)) for shape in self.made]


@pytest.mark.parametrize(
    ("given", "free", "made", "expected"),
    [
        (((3,), (3,), (4,)), (0, 1), ((3,),), ((0,), (1,))),
        (((3,), (3,), (4,)), (0, 1), ((3,), (3,)), ((0, 1),)),
        (((3,), (4,), (3,), (4,)), (0, 1, 2, 3), ((4,), (3,)), ((0, 1), (2, 3))),
        (((3,),), (), ((3,),), ((),)),
    ],
)
def test_as_many_operands_are_donated_as_there_are_results_of_their_type(given, free, made, expected):
    work = Made(given, made)
    assert overwritable(work.operands(), range(len(given)), work.results()) == tuple(
        k for k, shape in enumerate(given) if shape in made
    )
    assert donations(Order(work, free)) == expected
