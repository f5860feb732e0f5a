"""The meters against allocations of known size."""

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.meters.meter import Subject
from ckptgrad.meters.resident import resident
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.attached import attached
from tests.cases.tanh import tanh_arguments, tanh_loss

MIB = 2**20


def compiled(fun, *args):
    return jax.jit(fun).lower(*args).compile()


@pytest.mark.parametrize("size", [32 * MIB])
def test_resident_sees_a_known_allocation(size):
    x = jnp.ones(size // 4)
    program = compiled(lambda x: x + 1.0, x)
    reading = resident(Subject(program, attached(), (x,)))
    assert reading.reason is None
    assert 0.9 * size < reading.bytes < 1.3 * size
    assert compiled_memory(program).peak_bytes == size


def test_resident_takes_keys_scalars_and_bfloat16():
    args = (jax.random.key(3), 2.0, jnp.ones(4, jnp.bfloat16))
    reading = resident(Subject(compiled(lambda k, s, x: jax.random.normal(k, (4,)) * s + x, *args), attached(), args))
    assert reading.reason is None


def test_program_that_calls_python_has_a_reason_and_no_bytes():
    program = compiled(lambda x: jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct((), x.dtype), x), 1.0)
    reading = resident(Subject(program, attached(), (1.0,)))
    assert reading.bytes is None
    assert "serialised" in reading.reason


def test_what_runs_stage_by_stage_has_a_reason_and_no_bytes():
    args = tanh_arguments(8, 16)
    executable = cg.grad(tanh_loss, runtime="staged").compile(*args).executable
    reading = resident(Subject(executable, attached(), args))
    assert reading.bytes is None
    assert "stage by stage" in reading.reason


def test_the_resident_curve_covers_one_call():
    reading = cg.timeline(tanh_loss, *tanh_arguments(32, 1 << 15), observe="resident").readings["resident"]
    if reading.bytes is not None:
        assert reading.curve
        assert all(0 <= share <= 1 for share, _ in reading.curve)
        assert max(bytes_ for _, bytes_ in reading.curve) == reading.bytes
