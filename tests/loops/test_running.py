"""What runs in place of a planned computation is differentiated by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.loops.running import Running, defined_by, marker


@pytest.mark.parametrize("reverse", [False, True])
def test_the_derivative_is_that_of_the_definition(reverse):
    """Of the results that it has, towards the arrays that it reads."""
    function = defined_by(lambda x, n: [jnp.sin(x), n], lambda x: [jnp.sin(x)], [0], reverse)
    x = jnp.float32(0.5)
    np.testing.assert_allclose(function(x, 7.0)[0], jnp.sin(x))
    assert jax.grad(lambda x: function(x, 7.0)[0])(x) == jnp.cos(x)


def test_a_running_stands_where_a_primitive_stands():
    running = Running("twice", lambda x: [2 * x])
    assert running.bind(3, anything=1) == [6]
    assert running.get_bind_params({"anything": 1}) == {}


def test_a_marker_has_types_and_does_not_run():
    primitive = marker("a_test_marker", lambda x: [x, x])
    traced = jax.make_jaxpr(primitive.bind)(jnp.float32(1.0))
    assert [v.aval.shape for v in traced.jaxpr.outvars] == [(), ()]
    with pytest.raises(NotImplementedError):
        primitive.bind(jnp.float32(1.0))
