"""How often loops turn, stated in their names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from ckptgrad.graph.trips import stated_trips, stating_trips
from ckptgrad.target.hlo.text import read_module


@pytest.mark.parametrize(
    ("name", "trips"),
    [
        ("jit(f)/trips_2.500000000/while", 2.5),
        ("trips_3/while", 3.0),
        ("jit(f)/trips_2.5/while/body/trips_4.0/while", 4.0),
        ("jit(f)/trips_2.5/while/body/while", None),  # of a loop around it
        ("jit(f)/trips_2.5/while/body/add", None),
        ("jit(f)/my_trips_2.5/while", None),
        ("", None),
    ],
)
def test_a_name_states_the_trips_of_its_own_loop(name, trips):
    assert stated_trips(name) == trips


def test_a_compiled_program_shows_what_was_stated():
    def turned(x, n, average):
        with stating_trips(average):
            return lax.fori_loop(0, n, lambda i, x: jnp.sin(x), x)

    def loops(average):
        compiled = jax.jit(lambda x, n: turned(x, n, average)).lower(jnp.ones(8), jnp.int32(3)).compile()
        module = read_module(compiled.as_text())
        return [module.trips(i) for body in module.computations.values() for i in body.values() if i.opcode == "while"]

    assert loops(2.75) == [2.75]
    assert loops(None) == [1]
