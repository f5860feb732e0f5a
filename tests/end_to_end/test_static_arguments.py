"""Arguments that are not differentiated and not arrays reach the function as they are, in every door."""

from __future__ import annotations

import dataclasses
import enum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same

W, X = 0.5 * jnp.eye(3), jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Mode(enum.Enum):
    PLAIN = 1
    SQUARED = 2


@dataclasses.dataclass
class Config:
    steps: int = 2
    act: Any = jnp.tanh


@jax.tree_util.register_pytree_node_class
class Layer:
    """A module as Equinox has them: arrays and an activation function, all of them leaves."""

    def __init__(self, w, act):
        self.w, self.act = w, act

    def tree_flatten(self):
        return (self.w, self.act), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def flag(w, x, train):
    assert type(train) is bool
    return ((x @ w) ** 2).sum() if train else (x @ w).sum()


def count(w, x, n):
    return sum((jnp.sin(x @ w) ** k).sum() for k in range(n))


def word(w, x, mode):
    return getattr(jnp, mode)(x @ w).sum()


def call(w, x, f):
    return f(x @ w).sum()


def optional(w, x, mask):
    return (x @ w).sum() if mask is None else (x @ w * mask).sum()


def number(w, x, rate):
    return (jnp.sin(x @ w) * rate).sum() if rate > 0 else w.sum()


def configured(w, x, config):
    for _ in range(config.steps):
        x = config.act(x @ w)
    return x.sum()


def layered(w, x, layer):
    return layer.act(x @ w @ layer.w).sum()


def several(w, x, options):
    return options["act"](x @ w * options["scale"]).sum() * (2 if options["double"] else 1)


def mode(w, x, m):
    return (x @ w).sum() if m is Mode.PLAIN else ((x @ w) ** 2).sum()


def product(w, x, factor):
    return jnp.dot(jnp.dot(w[0, 0], factor), jnp.sin(w[1, 1])) + x.sum()


CASES = {
    "bool": (flag, True),
    "int": (count, 3),
    "numpy int": (count, np.int64(3)),
    "str": (word, "sin"),
    "callable": (call, jnp.cos),
    "None": (optional, None),
    "float": (number, 0.5),
    "a number in a product": (product, 3.0),
    "config": (configured, Config()),
    "module": (layered, Layer(2.0 * jnp.eye(3), jnp.tanh)),
    "mixed dict": (several, {"act": jnp.sin, "scale": X[0], "double": True}),
    "enum": (mode, Mode.SQUARED),
}
every_case = pytest.mark.parametrize(("fun", "value"), CASES.values(), ids=CASES)


@every_case
def test_positional_and_by_keyword(fun, value):
    wanted = jax.grad(fun)(W, X, value)
    keyword = fun.__code__.co_varnames[2]
    assert_same(cg.grad(fun)(W, X, value), wanted)
    assert_same(cg.value_and_grad(fun, budget="min")(W, X, **{keyword: value})[1], wanted)


@pytest.mark.parametrize("name", ["bool", "int", "str", "callable", "config"])
def test_static_under_jit(name):
    fun, value = CASES[name]
    keyword, wanted = fun.__code__.co_varnames[2], jax.grad(fun)(W, X, value)
    value = value if name != "config" else CASES["config"][1].__class__  # a class is hashable, and has the fields' defaults
    fun = fun if name != "config" else lambda w, x, config: configured(w, x, config())
    keyword = keyword if name != "config" else "config"
    assert_same(jax.jit(cg.grad(fun), static_argnums=2)(W, X, value), wanted)
    assert_same(jax.jit(cg.grad(fun), static_argnames=keyword)(W, X, **{keyword: value}), wanted)


def hessian_product(fun, value):
    return cg.hvp(fun, (W, X, value), (jnp.ones_like(W), jnp.zeros_like(X), None))


DOORS = {
    "compile": lambda f, v: cg.grad(f).compile(W, X, v)(W, X, v),
    "compile by shapes": lambda f, v: cg.grad(f).compile(jax.eval_shape(lambda: W), X, v)(W, X, v),
    "checkpoint": lambda f, v: jax.grad(cg.checkpoint(f))(W, X, v),
    "checkpoint inside ours": lambda f, v: cg.grad(cg.checkpoint(f))(W, X, v),
    "jacrev": lambda f, v: cg.jacrev(f)(W, X, v),
    "jacfwd": lambda f, v: cg.jacfwd(f)(W, X, v),
    "jacobian": lambda f, v: cg.jacobian(f)(W, X, v),
}


@pytest.mark.parametrize("name", ["bool", "module", "mixed dict", "float"])
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_doors_of_gradients(door, name):
    fun, value = CASES[name]
    assert_same(door(fun, value), jax.grad(fun)(W, X, value), scale=8)


@pytest.mark.parametrize("name", ["bool", "callable"])
def test_second_order(name):
    fun, value = CASES[name]
    wanted = jax.hessian(fun)(W, X, value)
    assert_same(cg.hessian(fun)(W, X, value), wanted, scale=8)
    assert_same(hessian_product(fun, value), wanted.sum((2, 3)), scale=20)


def test_reports():
    for fun, value in (CASES["bool"], CASES["module"]):
        assert cg.plan(fun, W, X, value).peak_bytes > 0
        assert cg.frontier(fun, W, X, value).points
        assert cg.timeline(fun, W, X, value, observe=("xla", "ledger")).readings["ledger"].bytes
    assert cg.validate(flag, W, X, train=True, meters=(), repeats=1, locate=True).passed


CONFUSED = [
    (True, 1),
    (1, 1.0),
    (0.0, -0.0),
    (2, 3),
    ("sin", "cos"),
    (jnp.sin, jnp.cos),
    (Config(1), Config(True)),
]


@pytest.mark.parametrize(("compiled", "other"), CONFUSED, ids=map(repr, range(len(CONFUSED))))
def test_a_compiled_gradient_is_for_its_values_alone(compiled, other):
    def scaled(x, *, setting):
        return x * float(len(repr(setting)))

    safe = cg.grad(scaled).compile(1.0, setting=compiled)
    assert safe(2.0, setting=compiled) == len(repr(compiled))
    with pytest.raises(cg.StaticArgumentError, match=r"setting = .*compile again") as caught:
        safe(2.0, setting=other)
    assert isinstance(caught.value, TypeError)


def test_a_setting_changed_in_place_is_seen():
    config = Config(steps=1)
    safe = cg.grad(configured).compile(W, X, config)
    config.steps = 3
    with pytest.raises(cg.StaticArgumentError, match="in place"):
        safe(W, X, config)
    config.steps = 1
    assert_same(safe(W, X, config), jax.grad(configured)(W, X, config))


def test_stages_and_traces():
    layer = cg.stage(lambda w, x, train, act=jnp.tanh: act(x @ w) if train else x)
    for train, act in ((True, jnp.sin), (False, jnp.sin), (True, jnp.tanh)):
        wanted = jax.grad(lambda w, t, a: (a(X @ w) if t else X + w.sum()).sum())(W, train, act)
        found = cg.grad(lambda w, t, a: (layer(w, X, t, act=a) + (0 if t else w.sum())).sum())(W, train, act)
        assert_same(found, wanted, scale=4)
    graph = cg.trace(word, W, X, mode="cos")
    assert len(graph.inputs) == 2
    assert_same(graph(W, X)[0], word(W, X, "cos"))


def test_a_compiled_gradient_keeps_no_arguments():
    safe = cg.grad(layered).compile(W, X, Layer(W, jnp.tanh))
    arrays = [x for a in safe.traced_parts.__self__.kept.values() for x in (a.whole, *a.leaves.values())]
    assert not any(isinstance(x, jax.Array) for x in arrays)


def test_aux_that_is_no_array_comes_back_as_it_is():
    found = cg.grad(lambda x, name: (x * x, {"name": name, "n": 3, "y": x}), has_aux=True)(2.0, "loss")
    wanted = jax.grad(lambda x, name: (x * x, {"name": name, "n": 3, "y": x}), has_aux=True)(2.0, "loss")
    assert found == wanted
    assert type(found[1]["n"]) is int


def test_what_is_not_differentiated_is_the_very_object():
    seen = []

    def watching(x, options):
        seen.append(options)
        return x * 2.0

    options = {"a": "b"}
    cg.grad(watching)(1.0, options)
    cg.grad(partial(watching, options=options))(1.0)
    assert all(o is options for o in seen)
