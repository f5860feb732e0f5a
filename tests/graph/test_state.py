"""What a function changes in place in its arguments is returned, or refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import ckptgrad as cg
from ckptgrad.graph.state import holds_nnx, losing_nothing

X = jnp.ones((3, 4))


@jax.tree_util.register_pytree_node_class
class Counter:
    def __init__(self, count):
        self.count = count

    def tree_flatten(self):
        return (self.count,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


class Unstable(Counter):
    """Makes its leaves when asked for them."""

    def tree_flatten(self):
        return (self.count * 1.0,), None


jax.tree_util.register_pytree_node(Unstable, Unstable.tree_flatten, Unstable.tree_unflatten)


class Model(nnx.Module):
    def __init__(self, rngs=None):
        rngs = rngs or nnx.Rngs(0)
        self.linear, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


def loss(model, x):
    return jnp.sum(model(x) ** 2)


def of_x(x, model):
    return loss(model, x)


def count(x, counter):
    counter.count = counter.count + 1
    return x * counter.count


DOORS = {
    "value_and_grad": lambda f, *args: cg.value_and_grad(f)(*args),
    "compile": lambda f, *args: cg.grad(f).compile(*args),
    "jit": lambda f, *args: jax.jit(cg.grad(f))(*args),
    "checkpoint": lambda f, *args: cg.checkpoint(f)(*args),
    "stage": lambda f, *args: jax.make_jaxpr(cg.stage(f))(*args),
    "jacrev": lambda f, *args: cg.jacrev(f)(*args),
    "trace": lambda f, *args: cg.trace(f, *args),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_change_that_would_be_lost_is_refused(door):
    with pytest.raises(cg.StateError, match=r"count .*Counter in place: \.?\[?.*has_aux"):
        DOORS[door](count, 1.0, Counter(jnp.zeros(())))
    with pytest.raises(cg.StateError, match=r"Model in place: .*norm.*mean.*ckptgrad\.nnx\.value_and_grad"):
        DOORS[door](of_x, X, Model())


def test_also_of_what_is_differentiated():
    with pytest.raises(cg.StateError, match=r"dropout.*count"):
        cg.value_and_grad(loss, allow_int=True)(Model(), X)
    with pytest.raises(cg.GradientTypeError, match=r"use ckptgrad\.nnx\.value_and_grad"):
        cg.value_and_grad(loss)(Model(), X)


def test_what_is_returned_is_not_lost():
    def with_aux(x, counter):
        return count(x, counter), counter

    gradient, counter = cg.grad(with_aux, has_aux=True)(2.0, Counter(jnp.zeros(())))
    assert (float(gradient), float(counter.count)) == (1.0, 1.0)


def test_what_changes_nothing_is_as_with_jax():
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    ours, theirs = cg.grad(loss)(model, X), jax.grad(loss)(model, X)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert all(jnp.allclose(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def test_an_attribute_of_a_module_is_state_too():
    def quietly(x, model):
        model.eval()
        return loss(model, x)

    with pytest.raises(cg.StateError, match="attribute"):
        cg.grad(quietly)(X, Model())


def test_containers_and_states_of_split_may_be_taken_apart():
    def popping(x, batch):
        batch["more"] = batch.pop("scale") * x
        return jnp.sum(batch["more"])

    assert float(cg.grad(popping)(1.0, {"scale": 3.0 * jnp.ones(())})) == 3.0
    graphdef, params, rest = nnx.split(Model(), nnx.Param, ...)
    gradient = cg.grad(lambda params, rest: loss(nnx.merge(graphdef, params, rest), X))(params, rest)
    assert isinstance(gradient, nnx.State)


def test_of_a_class_that_makes_its_leaves_nothing_is_said():
    assert float(cg.grad(count)(1.0, Unstable(jnp.zeros(())))) == 1.0


def test_a_function_without_objects_is_itself():
    assert losing_nothing(loss, (X, {"a": [X, "text", 3]}), {}) is loss
    assert holds_nnx([Model()])
    assert not holds_nnx([X, Counter(1.0)])
