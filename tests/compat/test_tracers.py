import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad import compat


def test_tracers_of_one_trace_know_it():
    seen = []
    jax.make_jaxpr(lambda x, y: seen.extend(map(compat.trace_of, (x, y, jnp.sin(x) + y))))(1.0, 2.0)
    jax.make_jaxpr(lambda x: seen.append(compat.trace_of(x)))(1.0)
    first, second, made, other = seen
    assert first is second is made is not None
    assert other is not first


def test_what_is_no_tracer_has_none():
    assert all(compat.trace_of(x) is None for x in (1.0, np.ones(2), jnp.ones(2)))
