"""What JAX's doors return or raise, ours return or raise too: values, structures, dtypes, kinds of errors."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same

X = jnp.array([1.0, 2.0])
Z = jnp.array([1 + 2j, 3j])
FLOAT0 = np.zeros((), jax.dtypes.float0)


def product(x, y):
    return x * x * y


def nested(x, y):
    return {"a": x * y, "b": (x,)}


def generator(x):
    yield x


def pullback(m):
    return m.vjp(nested, X, 3.0)[1]


def linearized(m):
    return m.linearize(lambda x, y: x * y, X, 3.0)[1]


VALUES = {
    "negative argnums": lambda m: m.grad(product, argnums=-1)(2.0, 3.0),
    "argnums as a list": lambda m: m.grad(product, argnums=[1, 0])(2.0, 3.0),
    "argnums as an array": lambda m: m.value_and_grad(product, argnums=np.array([0, 1]))(2.0, 3.0),
    "negative argnums, jacfwd": lambda m: m.jacfwd(product, argnums=(-1,))(2.0, 3.0),
    "negative argnums, jacrev": lambda m: m.jacrev(product, argnums=(1, -2))(2.0, 3.0),
    "has_aux with a list": lambda m: m.value_and_grad(lambda x: [x * x, x], has_aux=True)(X[1]),
    "real loss of complex parameters": lambda m: m.grad(lambda w: jnp.sum(jnp.abs(w) ** 2))(Z),
    "complex among real": lambda m: m.grad(lambda a, z: a * jnp.abs(z).sum(), argnums=(0, 1))(2.0, Z),
    "jacrev, complex among real": lambda m: m.jacrev(lambda a, z: a * jnp.abs(z), argnums=(0, 1))(X, Z),
    "jacrev at a number": lambda m: m.jacrev(lambda x: (x, 2.0, x * x))(3.0),
    "jacfwd at a number": lambda m: m.jacfwd(lambda x: (x, 2.0, x * x))(3.0),
    "jacobian at a number": lambda m: m.jacobian(lambda x: (x, 2.0, x * x))(3.0),
    "jacobian of the identity": lambda m: m.jacobian(lambda x: x)(X),
    "jacobian of inputs and constants": lambda m: m.jacobian(lambda x, y: (y, jnp.sin(3.0), x), argnums=(0, 1))(X, 2.0),
    "jacobian with aux": lambda m: m.jacobian(lambda x: (jnp.sin(x) * x[0], {"n": 3, "y": x}), 0, True)(X),
    "jacobian, holomorphic": lambda m: m.jacobian(lambda z: z * z[0] + jnp.sin(z), holomorphic=True)(Z),
    "jacobian, integers": lambda m: m.jacobian(lambda x, n: x * n, (0, 1), allow_int=True)(X, 3),
    "hessian at a number": lambda m: m.hessian(lambda x: x**3)(2.0),
    "jacfwd with an integer output": lambda m: m.jacfwd(lambda x: (x, jnp.argmax(x)))(X),
    "jacfwd with a complex output": lambda m: m.jacfwd(lambda x: 1j * x)(2.0),
    "integers allowed": lambda m: m.jacrev(lambda x, n: x * n, argnums=(0, 1), allow_int=True)(X, 3),
    "float0 of an integer primal": lambda m: m.vjp(product, 2.0, 3)[1](1.0),
    "float0 of an integer output": lambda m: m.jvp(lambda x: (x, 3), (2.0,), (1.0,))[1],
    "float0 tangent": lambda m: m.jvp(product, (2.0, 3), (1.0, FLOAT0)),
    "cotangent in double precision": lambda m: pullback(m)({"a": np.ones(2), "b": (jnp.ones(2),)}),
    "cotangent of an integer output": lambda m: m.vjp(lambda x: (x, 3), 1.0)[1]((1.0, FLOAT0)),
    "an output twice": lambda m: m.vjp(lambda x: (jnp.sin(x), jnp.sin(x), x), 1.0)[1]((1.0, 2.0, 3.0)),
    "no output": lambda m: m.vjp(lambda x: None, 1.0)[1](None),
    "the name of a function": lambda m: [
        d(product).__name__ == "product" for d in (m.grad, m.value_and_grad, m.jacrev, m.jacfwd, m.hessian)
    ],
    "the name of a partial": lambda m: m.grad(functools.partial(product, y=1.0)).__name__ == "product",
    "wrapped": lambda m: m.grad(product).__wrapped__ is product,
    "a method": lambda m: type("Model", (), {"loss": m.grad(lambda self, x: x**2, argnums=1)})().loss(3.0),
}  # fmt: skip


def arrays(tree):
    """Python numbers, which JAX returns here and there, as arrays."""
    return jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x), tree)


@pytest.mark.parametrize("row", VALUES.values(), ids=VALUES)
def test_values(row):
    assert_same(arrays(row(cg)), arrays(row(jax)), scale=4)


PYTREES = {
    "a pullback leaves jit": lambda m: jax.jit(lambda x: m.vjp(jnp.sin, x))(1.0)[1](1.0),
    "a linearized function leaves jit": lambda m: jax.jit(lambda x: m.linearize(jnp.sin, x))(1.0)[1](1.0),
    "a pullback enters jit": lambda m: jax.jit(lambda p, c: p(c))(pullback(m), {"a": X, "b": (X,)}),
    "a linearized function enters jit": lambda m: jax.jit(lambda p, t: p(t, 2.0))(linearized(m), X),
    "with integers": lambda m: jax.jit(lambda p: p(1.0))(m.vjp(product, 2.0, 3)[1]),
    "closing over a tracer": lambda m: jax.jit(lambda a: m.vjp(lambda x: jnp.sin(x * a) * a, 2.0)[1])(3.0)(1.0),
    "vmap": lambda m: jax.vmap(lambda p, c: p(c))(jax.vmap(lambda a: m.vjp(lambda x: jnp.sin(x * a), a)[1])(X), X),
    "vmap, linearized": lambda m: jax.vmap(lambda p, t: p(t))(jax.vmap(lambda a: m.linearize(jnp.sin, a)[1])(X), X),
    "scan": lambda m: jax.lax.scan(
        lambda c, p: (c * 2, p(c)), 1.0, jax.lax.scan(lambda c, x: (c, m.vjp(lambda v: v**3, x)[1]), 0.0, X)[1]
    ),
    "cond": lambda m: jax.lax.cond(X[0] > 0, lambda p: p(1.0), lambda p: p(2.0), m.vjp(jnp.sin, 2.0)[1]),
    "differentiated through": lambda m: jax.grad(lambda x: jax.jit(lambda p: p(1.0))(m.vjp(jnp.sin, x)[1])[0])(X[0]),
    "ours through ours": lambda m: m.grad(lambda x: jax.jit(lambda p: p(1.0))(m.linearize(jnp.sin, x)[1]))(1.0),
    "arrays are its leaves": lambda m: [isinstance(x, jax.Array) for x in jax.tree.leaves(m.vjp(jnp.sin, 2.0)[1])],
    "the residual of a custom rule": lambda m: m.grad(residual_of_a_rule(m))(3.0),
}


def residual_of_a_rule(m):
    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: m.vjp(lambda v: v**2, x), lambda pull, ct: pull(ct))
    return square


@pytest.mark.parametrize("row", PYTREES.values(), ids=PYTREES)
def test_pullbacks_and_linearized_functions_are_pytrees(row):
    assert_same(arrays(row(cg)), arrays(row(jax)), scale=4)


@pytest.mark.parametrize("door", [cg.vjp, cg.linearize])
def test_the_structure_of_a_pullback_holds_no_arrays(door):
    big = jnp.arange(12345.0)
    kept = door(lambda x: jnp.sin(x * big), 2.0)[1]
    leaves, tree = jax.tree.flatten(kept)
    assert any(x.size == big.size for x in leaves)
    program = jax.tree.structure(kept.closure).node_data()[1]
    assert all(x is None for x in program.consts)
    with jax.checking_leaks():
        jax.jit(lambda x: door(lambda v: jnp.sin(v * x), x))(3.0)
    assert_same(
        jax.tree.unflatten(tree, leaves)(1.0 if door is cg.linearize else big), kept(1.0 if door is cg.linearize else big)
    )


def test_a_pullback_of_a_plan_enters_jit():
    ws = [0.5 * jnp.eye(8)] * 5

    def loss(ws):
        x = jnp.ones((16, 8))
        for w in ws:
            x = jnp.tanh(x @ w)
        return x.sum()

    found = jax.jit(lambda p: p(1.0))(cg.vjp(loss, ws, budget="min")[1])
    assert_same(found, jax.vjp(loss, ws)[1](1.0), scale=4)


def test_equal_calls_are_traced_once():
    count = [0]

    def counted(x):
        count[0] += 1
        return x * x

    door = jax.jit(cg.grad(counted))
    pull = cg.vjp(jnp.sin, 1.0)[1]
    apply = jax.jit(lambda p, c: (count.append(0), p(c))[1])
    for value in (1.0, 2.0, 3.0):
        door(value)
        apply(pull, value)
    assert count[0] == 1
    assert len(count) == 2


ERRORS = {
    "no function": lambda m: m.grad(3),
    "no function, vjp": lambda m: m.vjp(3, 1.0),
    "no function, jvp": lambda m: m.jvp(3, (1.0,), (1.0,)),
    "no function, jacrev": lambda m: m.jacrev(3),
    "no function, hessian": lambda m: m.hessian(3),
    "a generator": lambda m: m.value_and_grad(generator),
    "argnums: a word": lambda m: m.grad(product, argnums="0"),
    "argnums: a float": lambda m: m.grad(product, argnums=1.0),
    "argnums: None": lambda m: m.grad(product, argnums=None),
    "argnums: none": lambda m: m.grad(product, argnums=())(2.0, 3.0),
    "argnums: too large": lambda m: m.grad(product, argnums=2)(2.0, 3.0),
    "argnums: too small": lambda m: m.grad(product, argnums=-3)(2.0, 3.0),
    "argnums: too large, jacrev": lambda m: m.jacrev(product, argnums=2)(2.0, 3.0),
    "argnums: too large, jacfwd": lambda m: m.jacfwd(product, argnums=2)(2.0, 3.0),
    "no arguments": lambda m: m.grad(lambda: 1.0)(),
    "a tuple": lambda m: m.grad(lambda x: (x,))(1.0),
    "None": lambda m: m.grad(lambda x: None)(1.0),
    "a string": lambda m: m.vjp(lambda x: {"c": x, "b": "q"}, 1.0),
    "a vector": lambda m: m.grad(lambda x: x)(X),
    "an integer": lambda m: m.grad(lambda x: 3)(1.0),
    "a complex number": lambda m: m.grad(lambda x: x * 1j)(1.0),
    "a key": lambda m: m.grad(lambda x: jax.random.key(0))(1.0),
    "no pair": lambda m: m.grad(lambda x: x, has_aux=True)(1.0),
    "a triple": lambda m: m.grad(lambda x: (x, x, x), has_aux=True)(1.0),
    "no pair, vjp": lambda m: m.vjp(lambda x: x, 1.0, has_aux=True),
    "no pair, jvp": lambda m: m.jvp(lambda x: x, (1.0,), (1.0,), has_aux=True),
    "an integer argument": lambda m: m.grad(lambda x: 1.0)(1),
    "an object argument": lambda m: m.grad(lambda x: 1.0)(object()),
    "an array of strings": lambda m: m.vjp(lambda x: 1.0, np.array(["a"])),
    "jacfwd of an integer": lambda m: m.jacfwd(lambda x: x * 2.0)(1),
    "jacfwd of a complex number": lambda m: m.jacfwd(lambda x: x * 2.0)(1j),
    "jacrev with an integer output": lambda m: m.jacrev(lambda x: 3)(1.0),
    "holomorphic of a real number": lambda m: m.grad(lambda x: x, holomorphic=True)(1.0),
    "two cotangents": lambda m: pullback(m)(X, X),
    "tree of the cotangent": lambda m: pullback(m)({"a": X}),
    "shape of the cotangent": lambda m: pullback(m)({"a": jnp.ones(3), "b": (X,)}),
    "dtype of the cotangent": lambda m: pullback(m)({"a": jnp.ones(2, int), "b": (X,)}),
    "precision of the cotangent": lambda m: m.vjp(jnp.sin, jnp.float16(1))[1](1.0),
    "an integer cotangent": lambda m: m.vjp(jnp.sin, 1.0)[1](1),
    "a string cotangent": lambda m: m.vjp(jnp.sin, 1.0)[1]("x"),
    "number of tangents": lambda m: linearized(m)(X),
    "shape of a tangent, linearized": lambda m: linearized(m)(jnp.ones(3), 1.0),
    "dtype of a tangent, linearized": lambda m: linearized(m)(jnp.ones(2, int), 1.0),
    "no tuples": lambda m: m.jvp(jnp.sin, 1.0, 1.0),
    "tree of the tangents": lambda m: m.jvp(jnp.sin, (1.0,), (1.0, 2.0)),
    "a list and a tuple": lambda m: m.jvp(jnp.sin, [1.0], (1.0,)),
    "dtype of a tangent": lambda m: m.jvp(jnp.sin, (1.0,), (1,)),
    "shape of a tangent": lambda m: m.jvp(jnp.sin, (X,), (jnp.ones(3),)),
    "an integer tangent": lambda m: m.jvp(lambda x: x * 2, (1,), (1,)),
    "aux of a compiled gradient": lambda m: (
        m.grad(lambda x: (x, "s"), has_aux=True).compile(1.0)
        if m is cg
        else jax.jit(jax.grad(lambda x: (x, "s"), has_aux=True))(1.0)
    ),
    "a string primal": lambda m: m.jvp(lambda x: x * 2, ("a",), (1.0,)),
}
if jax.__version_info__ < (0, 10, 2):  # which differentiate it
    del ERRORS["an array of strings"]


@pytest.mark.parametrize("row", ERRORS.values(), ids=ERRORS)
def test_errors(row):
    with pytest.raises(Exception) as theirs:
        row(jax)
    with pytest.raises(cg.CkptgradError) as ours:
        row(cg)
    assert isinstance(ours.value, theirs.type)


def branching(params, *, batch):
    return params["w"].sum() if params["w"].sum() > 0 else batch.sum()


PARAMS = {"w": X, "b": 1.0}
BRANCHING = {
    "grad": lambda: cg.grad(branching)(PARAMS, batch=X),
    "plan": lambda: cg.plan(branching, PARAMS, batch=X),
    "jacrev": lambda: cg.jacrev(branching)(PARAMS, batch=X),
    "jacobian": lambda: cg.jacobian(branching)(PARAMS, batch=X),
    "checkpoint": lambda: jax.grad(cg.checkpoint(branching))(PARAMS, batch=X),
    "compile": lambda: cg.grad(branching).compile(PARAMS, batch=X),
    "validate": lambda: cg.validate(branching, PARAMS, batch=X),
    "with settings": lambda: cg.grad(lambda params, flag, *, batch: branching(params, batch=batch))(PARAMS, True, batch=X),
    "jvp": lambda: cg.jvp(lambda params: branching(params, batch=X), (PARAMS,), (PARAMS,)),
}


@pytest.mark.parametrize("door", BRANCHING.values(), ids=BRANCHING)
def test_a_branch_on_a_value_names_the_argument_and_the_line(door):
    with pytest.raises(jax.errors.TracerBoolConversionError, match=r"(?s)function (branching|<lambda>) at .*test_conv") as e:
        door()
    assert "argument params['w']" in str(e.value)


NAMED = {
    "a leaf of a dict": (lambda: cg.grad(branching)({"w": "x"}, batch=X), r"params\['w'\] of branching \(.*py:\d+\)"),
    "its dtype": (lambda: cg.grad(branching)({"w": 1}, batch=X), r"int32 for the argument params\['w'\] of branching"),
    "varargs": (lambda: cg.vjp(lambda *xs: xs, 1.0, ["a"]), r"argument xs\[1\]\[0\] of"),
    "a leaf of the result": (lambda: cg.vjp(nested, X, 3.0)[1]({"a": X, "b": (1.0,)}), r"result\['b'\]\[0\] of nested"),
    "a tangent": (lambda: cg.jvp(product, (1.0, X), (1.0, 1.0)), r"primal y of product"),
}


@pytest.mark.parametrize(("call", "words"), NAMED.values(), ids=NAMED)
def test_messages_name_what_the_user_wrote(call, words):
    with pytest.raises(cg.GradientTypeError, match=words):
        call()
