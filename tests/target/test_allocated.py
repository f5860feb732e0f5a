"""What a compiled program allocates."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ckptgrad.target.allocated import Memory, compiled_memory

X = jnp.ones(1024)


def test_a_peak_is_temporaries_and_outputs_that_are_not_donated():
    assert Memory(100, 60, 1000, 40).peak_bytes == 120


def test_bytes_by_hand():
    """Two outputs, of which one takes the place of the donated argument."""
    program = jax.jit(lambda x, y: (x + 1, y * 2), donate_argnums=0).lower(X, X).compile()
    memory = compiled_memory(program)
    assert memory.argument_bytes == 2 * X.nbytes
    assert memory.alias_bytes == X.nbytes
    assert 2 * X.nbytes <= memory.output_bytes <= 2 * X.nbytes + 64
    assert X.nbytes <= memory.peak_bytes - memory.temporary_bytes <= X.nbytes + 64
