"""What stages are called: the names that users gave, whichever library their model is written in."""

from __future__ import annotations

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import ckptgrad as cg
from ckptgrad.chain.layers import layer_of, ranged
from ckptgrad.graph.trace import from_jaxpr

X = jnp.ones((64, 16))


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(16)(jnp.tanh(nn.LayerNorm()(x)))


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(3):
            x = LinenBlock(name=f"Block_{i}")(x)
        return x.mean()


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.dense = nnx.LayerNorm(16, rngs=rngs), nnx.Linear(16, 16, rngs=rngs)

    def __call__(self, x):
        return x + self.dense(jax.nn.gelu(self.norm(x)))


class NNXModel(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NNXBlock(rngs) for _ in range(3)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x.mean()


class EquinoxBlock(eqx.Module):
    norm: eqx.nn.LayerNorm
    dense: eqx.nn.Linear

    def __call__(self, x):
        return x + self.dense(jnp.tanh(self.norm(x)))


def linen():
    model = LinenModel()
    return model.apply, model.init(jax.random.key(0), X)


def nnx_model():
    graph, state = nnx.split(NNXModel(nnx.Rngs(0)))
    return (lambda model, x: nnx.merge(graph, model)(x)), state


def equinox():
    blocks = [EquinoxBlock(eqx.nn.LayerNorm(16), eqx.nn.Linear(16, 16, key=jax.random.key(i))) for i in range(3)]
    arrays, rest = eqx.partition(blocks, eqx.is_array)

    def loss(blocks, x):
        for block in eqx.combine(blocks, rest):
            x = jax.vmap(block)(x)
        return x.mean()

    return loss, arrays


def places(fun, params):
    found = cg.plan(fun, params, X, costs="estimate").program.places
    assert all(place.file == __file__ for place in found), "frames of installed packages are passed over"
    return [place.scope for place in found]


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (linen, [f"LinenModel/Block_{i}" for i in range(3)]),
        (nnx_model, [f"model.blocks[{i}]" for i in range(3)]),
        (equinox, [f"blocks[{i}]" for i in range(3)]),
    ],
)
def test_the_modules_of_libraries(make, layers):
    found = places(*make())
    assert [layer for layer in layers if any(scope.startswith(layer) for scope in found)] == layers
    assert all(any(scope.startswith(layer) for layer in layers) for scope in found)


def test_the_users_own_scopes():
    def loss(ws, x):
        for i, w in enumerate(ws):
            with jax.named_scope(f"layer_{i}"):
                x = x + jnp.tanh(x @ w)
        return x.mean()

    assert places(loss, [jnp.ones((16, 16))] * 3) == ["layer_0", "layer_1", "layer_2"]


def test_parameters_name_layers_also_after_a_cast():
    def loss(weights, x):
        for w in weights:
            x = x + jnp.tanh(x @ w["kernel"].astype(jnp.bfloat16).astype(jnp.float32))
        return x.mean()

    assert places(loss, [{"kernel": jnp.ones((16, 16))}] * 3) == [f"weights[{i}]" for i in range(3)]


def test_nothing_names_a_layer():
    assert set(places(lambda w, x: (jnp.tanh(jnp.tanh(x @ w) @ w) ** 2).mean(), jnp.ones((16, 16)))) == {""}


def test_layers_that_differ_in_more_than_a_number():
    assert ranged(["a/1/2", "a/2/3"]) == "a/1/2 .. a/2/3"
    assert ranged(["a/1", "a/1"]) == "a/1"
    assert ranged(["", "a/1", "a/2"]) == "a/{1..2}"
    assert ranged(["", ""]) == ""


def test_modules_that_are_split_for_a_gradient_keep_the_users_names():
    def loss(model, batch):
        return model(batch["x"])

    plan = cg.nnx.value_and_grad(loss).plan(NNXModel(nnx.Rngs(0)), {"x": X})
    names = plan.program.arguments
    assert "model['blocks'][2]['dense']['kernel'].value" in names
    assert "batch['x']" in names
    assert set(plan.program.argument_bytes) == {"model", "batch"}
    assert {place.scope.partition("]")[0] for place in plan.program.places} <= {f"model.blocks[{i}" for i in range(3)}


def test_a_stage_of_several_layers_has_the_first_and_the_last():
    shapes = [jax.ShapeDtypeStruct((size,), jnp.float32) for size in (64, 60, 1, 64)]
    graph = from_jaxpr(jax.make_jaxpr(lambda a, b, c, d: (a.sum() + b.sum()) * c.sum() * d.sum())(*shapes))
    names = dict(zip(graph.inputs, ("m['emb']['w']", "m['blocks'][0]['w']", "m['s']['w']", "m['head']['w']"), strict=True))
    assert layer_of(graph.operations, names) == "m.emb .. m.head"
    assert layer_of(graph.operations, dict(list(names.items())[:3])) == "m.emb"
