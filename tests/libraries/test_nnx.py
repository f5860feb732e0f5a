"""Gradients of NNX modules are those of `flax.nnx`, and so is what is left in the modules."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import ckptgrad as cg
from tests.support.compare import assert_same, quick
from tests.support.rows import quick_rows

X = jax.random.normal(jax.random.key(1), (8, 8))
pytestmark = pytest.mark.filterwarnings("ignore:Using 'Module.sow")  # what replaces it is not in all versions of Flax


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.dropout(jnp.tanh(self.norm(self.linear(x))))


class Model(nnx.Module):
    def __init__(self, seed=0, sows=True):
        rngs = nnx.Rngs(seed)
        self.blocks, self.head = nnx.List([Block(rngs) for _ in range(2)]), nnx.Linear(8, 1, rngs=rngs)
        self.calls, self.sows = 0, sows

    def __call__(self, x):
        if self.sows:
            self.calls += 1
            self.sow(nnx.Intermediate, "last", jnp.mean(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def loss(model, x):
    return jnp.mean(model(x) ** 2)


def with_aux(model, x):
    y = model(x)
    return jnp.mean(y**2), {"output": y, "head": model.head, "count": model.calls}


def two(model, factor, other):
    return loss(model, X) * factor + loss(other, X)


def states(*models):
    """What is in the modules; keys of random numbers as integers."""

    def plain(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(plain, [nnx.state(m) for m in models])


def both(call, **options):
    """The results of a call with ckptgrad's doors and with Flax's, each with what its modules are left with."""

    def run(doors, **options):
        models, calls = [Model(0), Model(1)], []

        def traced():
            copies = nnx.clone(models)
            result = call(doors, *copies, **options)
            calls[:] = [m.calls for m in copies]
            return result, states(*copies)

        return *quick(traced)(), calls

    return run(cg.nnx, **options), run(nnx)


CALLS = {
    "aux and a keyword": lambda doors, m, n, **o: doors.value_and_grad(with_aux, has_aux=True, **o)(m, x=X),
    "two and a filter": lambda doors, m, n, **o: doors.grad(
        two, argnums=(2, 1, nnx.DiffState(0, nnx.PathContains("kernel"))), **o
    )(m, 2.0, n),
    "no module, as a decorator": lambda doors, m, n, **o: doors.grad(argnums=1, **o)(two)(m, 2.0, n),
    "modules in containers": lambda doors, m, n, **o: doors.grad(
        lambda ms: loss(ms["a"], X) * ms["b"][0] + loss(ms["b"][1], X), **o
    )({"a": m, "b": [3.0, n]}),
}


@pytest.mark.parametrize("call", quick_rows(CALLS, "two and a filter"))
def test_gradients_and_states_are_those_of_flax(call):
    (ours, our_states, our_calls), (theirs, their_states, their_calls) = both(CALLS[call], budget="min")
    assert_same(ours, theirs, scale=20, whole=True)
    assert_same(our_states, their_states, scale=20)
    assert our_calls == their_calls
    assert sum(our_calls) > 0


def trained(doors, jit, **options):
    model = Model(sows=False)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    def step(model, optimizer, x):
        value, gradient = doors.value_and_grad(loss, **options)(model, x)
        optimizer.update(model, gradient)
        return value

    step = jit(step)
    return [step(model, optimizer, X) for _ in range(3)], states(model, optimizer)


@pytest.mark.slow
def test_within_nnx_jit():
    (values, *ours), theirs = trained(cg.nnx, nnx.jit, budget="min"), trained(nnx, nnx.jit)
    assert_same((values, *ours), theirs, scale=50, whole=True)
    assert len({float(v) for v in values}) == 3  # other masks each time


def test_within_jit_of_a_split_model():
    def run(doors, **options):
        graphdef, state = nnx.split(Model())

        @jax.jit
        def step(state, x):
            model = nnx.merge(graphdef, state)
            value, gradient = doors.value_and_grad(loss, **options)(model, x)
            return value, gradient, nnx.state(model, (nnx.BatchStat, nnx.RngCount))

        return step(state, X)

    assert_same(run(cg.nnx, budget="min"), run(nnx), scale=20, whole=True)


@pytest.mark.slow
def test_compiled_programs_update_the_modules_they_are_called_with():
    model, other = Block(nnx.Rngs(0)), Block(nnx.Rngs(0))
    step = cg.nnx.value_and_grad(loss, budget="1MiB").compile(model, X)
    assert_same(states(model), states(other), bits=True)
    assert step.peak_bytes <= step.budget
    theirs = nnx.jit(nnx.value_and_grad(loss))
    for _ in range(2):
        assert_same(step(model, X), theirs(other, X), scale=20, whole=True)
    assert_same(states(model), states(other), scale=20)
    model.eval()
    with pytest.raises(cg.StaticArgumentError, match="mode"):
        step(model, X)


def test_parameters_are_no_results():
    model = nnx.Sequential(*[nnx.Linear(256, 256, rngs=nnx.Rngs(0)) for _ in range(2)])
    step = cg.nnx.grad(loss).compile(model, jnp.ones((2, 256)))
    parameters = sum(x.nbytes for x in jax.tree.leaves(nnx.state(model)))
    assert step.memory.output_bytes < 1.1 * parameters  # the gradients


def test_pure_calls_for_doors_that_look():
    model = Model()
    fun, parts = cg.nnx.pure(loss, model, X)
    assert cg.frontier(fun, *parts, has_aux=True).points
    assert cg.nnx.value_and_grad(loss, budget="min").plan(model, X).peak_bytes > 0
    assert_same(states(model), states(Model()), bits=True)
    assert model.calls == 0


def test_wrong_calls():
    model = Model()
    with pytest.raises(cg.ArgnumsError, match="out of range"):
        cg.nnx.grad(loss, argnums=2)(model, X)
    with pytest.raises(cg.ArgnumsError, match="twice"):
        cg.nnx.grad(loss, argnums=(0, nnx.DiffState(0, nnx.Param)))
    with pytest.raises(cg.ArgnumsError, match="DiffState"):
        cg.nnx.grad(loss, argnums="0")
    with pytest.raises(cg.GradientTypeError, match="method"):
        cg.nnx.grad(model.__call__)
    with pytest.raises(cg.GradientTypeError, match="scalar"):
        cg.nnx.grad(lambda m, x: m(x))(model, X)
    with pytest.raises(ValueError, match="alias"):
        cg.nnx.grad(lambda a, b: loss(a, X) + loss(b, X))(model, model)
    with pytest.raises(cg.BudgetFormatError):
        cg.nnx.grad(loss, budget="much")


def test_without_flax(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(cg.MissingExtraError, match=r"ckptgrad\[flax\]"):
        cg.nnx.grad(loss)
