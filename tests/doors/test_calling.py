"""A call as its leaves: which are differentiated, under which names, and for which target."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.doors.calling import call_of_none, check_function, make_call
from ckptgrad.errors import GradientTypeError
from ckptgrad.target.target import MemorySpace, described

X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize("argnums", [2, -3, (0, 0), (), (0, -2), (0, 5), "0", 1.0, True, None, (0, None)])
def test_wrong_argnums(argnums):
    with pytest.raises(cg.OptionError) as caught:
        cg.grad(lambda x, y: x.sum(), argnums=argnums)(X, X)
    assert repr(argnums) in str(caught.value)


def loss(params, x, *, scale):
    return (params["w"] * x).sum() * scale


PARAMS = {"b": X + 1, "w": X + 2}


@pytest.mark.parametrize(
    ("argnums", "names"),
    [(0, ["params['b']", "params['w']"]), (1, ["x"]), ((1, 0), ["x", "params['b']", "params['w']"]), (-1, ["x"])],
)
def test_differentiated_leaves_in_the_order_of_argnums(argnums, names):
    call = make_call(loss, (PARAMS, X), {"scale": X[0]}, argnums)
    assert call.names == ["params['b']", "params['w']", "x", "scale"]
    assert [call.names[k] for k in call.selected] == names
    assert call.primals_tree == jax.tree.structure(call.primals)
    of_primals = call.of_primals()
    assert of_primals.names == names
    assert of_primals.fun(*call.primals) == loss(PARAMS, X, scale=X[0])


def test_numbers_are_leaves_where_they_are_differentiated():
    call = make_call(max, (2.0, 3.0), {}, 0)
    assert isinstance(call.leaves[0], jax.Array)
    assert len(call.leaves) == 1
    assert call.fun(5.0, None) == 5.0
    assert call_of_none(max, (2.0, X), {}).leaves == [X]


def test_what_is_no_function():
    def generator(x):
        yield x

    for fun, words in ((3, "got 3"), (generator, "generator function: generator")):
        with pytest.raises(GradientTypeError, match=words):
            check_function(fun)


GPU = described("cuda", "H100", [MemorySpace("device", 2**16)])


def sines(x):
    for _ in range(3):
        x = jnp.tanh(jnp.sin(x) * 2)
    return x


def through_a_loop(**options):
    return jax.grad(lambda x: cg.scan(lambda c, _: (sines(c), None), x, None, 40, **options)[0].sum())


def through_a_while_loop(**options):
    return jax.grad(lambda x: cg.while_loop(lambda c: c.sum() > 2, sines, x, **options).sum())


# Every door that takes a target, as a function from options to a function of one array.
DOORS = {
    "grad": lambda **o: cg.grad(lambda x: sines(x).sum(), **o),
    "vjp": lambda **o: lambda x: cg.vjp(sines, x, **o)[1](x),
    "checkpoint": lambda **o: jax.grad(lambda x: cg.checkpoint(sines, **o)(x).sum()),
    "hvp": lambda **o: lambda x: cg.hvp(lambda x: sines(x).sum(), (x,), (x,), **o),
    "hessian": lambda **o: cg.hessian(lambda x: sines(x).sum(), **o),
    "jacrev": lambda **o: cg.jacrev(sines, **o),
    "jacobian": lambda **o: cg.jacobian(sines, **o),
    "scan": through_a_loop,
    "scan, not differentiated": lambda **o: lambda x: cg.scan(lambda c, _: (sines(c), None), x, None, 4, **o)[0],
    "fori_loop": lambda **o: jax.grad(lambda x: cg.fori_loop(0, 4, lambda i, c: sines(c), x, **o).sum()),
    "while_loop": through_a_while_loop,
}
EACH = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


@EACH
def test_what_is_planned_for_a_chip_runs_on_no_arrays_elsewhere(door):
    with pytest.raises(cg.NotAttachedError, match="H100"):
        door(target=GPU)(X)
    assert "module" in GPU.lower(jax.jit(door(target=GPU)), X).as_text()


@EACH
def test_an_unknown_target_is_refused(door):
    with pytest.raises(cg.OptionError, match="abacus"):
        door(target="abacus")(X)


@EACH
def test_a_target_that_is_attached_changes_no_value(door):
    np.testing.assert_array_equal(door(target="cpu")(X), door()(X))


@pytest.mark.parametrize("name", ["grad", "vjp", "checkpoint", "jacrev"])
def test_stages_are_kept_apart_as_the_target_does_it(name):
    """By calls that are not inlined on a CPU, by barriers alone on other devices."""
    text = GPU.lower(jax.jit(DOORS[name](target=GPU)), X).as_text()
    assert "inlineable" not in text
    assert "optimization_barrier" in text
    assert "inlineable" in jax.jit(DOORS[name]()).lower(X).as_text()


@pytest.mark.parametrize("name", ["hvp", "scan", "while_loop"])
def test_the_memory_that_may_be_used_is_that_of_the_target(name):
    """Of a small device the budget "auto" is below what the fastest plan stores."""
    many = jax.ShapeDtypeStruct((2**11,), jnp.float32)
    texts = {t: GPU.lower(jax.jit(DOORS[name](target=t, budget="auto")), many).as_text() for t in (GPU, "cpu")}
    assert texts[GPU] != texts["cpu"]


@pytest.mark.parametrize("door", [cg.plan, cg.frontier, cg.timeline, cg.validate, cg.certify])
def test_a_keyword_like_an_option_that_the_function_does_not_take(door):
    with pytest.raises(TypeError, match="did you mean 'target'") as raised:
        door(jax.jit(lambda x: jnp.sum(x)), jnp.ones(2), targt="cpu")
    assert isinstance(raised.value, cg.OptionError)


@pytest.mark.parametrize("fun", [lambda x, cost: jnp.sum(x) * cost, lambda x, **k: jnp.sum(x) * k["cost"]])
def test_a_keyword_of_the_function_is_its_own(fun):
    assert cg.plan(fun, jnp.ones(2), cost=2.0).peak_bytes > 0


def test_a_keyword_of_a_decorator_is_the_functions():
    def inner(x):
        return jnp.sum(x)

    @functools.wraps(inner)
    def outer(x, cost):
        return inner(x) * cost

    assert cg.plan(outer, jnp.ones(2), cost=2.0).peak_bytes > 0


@pytest.mark.parametrize("door", [cg.value_and_grad, cg.grad])
def test_what_may_be_kept_is_named_as_on_the_command_line(door):
    named, given = (door(sines, saveable=keep) for keep in ("dots_saveable", jax.checkpoint_policies.dots_saveable))
    assert named.request.saveable is given.request.saveable
    with pytest.raises(cg.OptionError, match="did you mean"):
        door(sines, saveable="dot_saveable")
