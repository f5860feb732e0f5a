"""What views of mutable references are, as every version says it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ckptgrad.compat import references

X = jnp.arange(12.0).reshape(3, 4)


def views_of(read):
    """The views through which a function reads a reference, outermost last."""
    jaxpr = jax.make_jaxpr(lambda x: read(jax.new_ref(x)))(X).jaxpr
    (eqn,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "get"]
    return jax.tree.unflatten(eqn.params["tree"], eqn.invars[1:])


def test_an_index_is_a_slice_an_integer_or_an_array():
    (view,) = views_of(lambda ref: ref[1:3, 2])
    first, second = references.indices_of(view)
    assert (first.start, first.size, first.stride) == (1, 2, 1)
    assert int(getattr(second, "val", second)) == 2
    assert references.reshape_of(view) is None


def test_a_reshape_is_no_index():
    class Reshaped:
        shape = (4, 3)

    Reshaped.__name__ = "RefReshape"
    assert references.reshape_of(Reshaped()) == (4, 3)
    assert references.indices_of(Reshaped()) is None


def test_kinds_without_a_derivative_are_known_by_their_name():
    class Kind:
        kind = "no_grad_yet"

    assert references.has_no_derivative(Kind())
    assert not references.has_no_derivative(jax.typeof(X))
