"""Wrong derivatives are planted, and found where they stand; right ones are left alone."""

import inspect
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import dtypes, lax
from typer.testing import CliRunner

import ckptgrad as cg
from ckptgrad.autodiff.rule import register, unregister
from ckptgrad.cli import app
from ckptgrad.errors import ValidationError
from ckptgrad.results.finding import CUSTOM, RULE, UNCHECKED, UNLOCATED
from ckptgrad.validation import validate
from ckptgrad.validation.locate import locate_wrong
from tests.cases.custom_rules import called_back_cube
from tests.support.arrays import normal

LAYERS, FACTOR = 8, 1.05
QUICK = {"repeats": 1, "meters": (), "policies": ["store_all"]}


def vjp_rule(factor):
    """tanh with a custom_vjp rule that is off by a factor."""

    @jax.custom_vjp
    def squash(x):
        return jnp.tanh(x)

    squash.defvjp(lambda x: (jnp.tanh(x), x), lambda x, ct: (factor * ct * (1 - jnp.tanh(x) ** 2),))
    return squash


def jvp_rule(factor):
    @jax.custom_jvp
    def squash(x):
        return jnp.tanh(x)

    squash.defjvps(lambda t, ans, x: factor * t * (1 - ans**2))
    return squash


@jax.custom_vjp
def product(scale, x, y):
    return scale * x * y


product.defvjp(
    lambda scale, x, y: (scale * x * y, (scale, x, y)),
    lambda kept, ct: (7 * jnp.sum(ct), ct * kept[0] * kept[2], 2 * ct * kept[0] * kept[1]),
)


@jax.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, None), lambda _, ct: (jnp.clip(ct, -0.1, 0.1),))


@jax.custom_vjp
def rounded(x):
    """A straight-through estimator."""
    return jnp.round(x)


rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, ct: (ct,))


@jax.custom_jvp
def softplus(x):
    return jnp.log(1 + jnp.exp(x))


softplus.defjvps(lambda t, ans, x: t * jax.nn.sigmoid(x))


@jax.custom_jvp
def noisy(key, z):
    """A key among the inputs, an integer among the outputs."""
    return z**2 * jax.random.normal(key, z.shape), jnp.int32(3)


@noisy.defjvp
def _(primals, tangents):
    key, z = primals
    noise = jax.random.normal(key, z.shape)
    return (z**2 * noise, jnp.int32(3)), (2 * jnp.conj(z) * tangents[1] * noise, np.zeros((), dtypes.float0))


@jax.custom_vjp
def counted(x):
    return x**2, jnp.sum(x > 0)


counted.defvjp(lambda x: (counted(x), x), lambda x, cts: (cts[0] * x,))


def chain(weights, x, act):
    """Layer 5 has the function in question, the others plain tanh."""
    for i, w in enumerate(weights):
        squash = act if i == 5 else jnp.tanh
        x = cg.stage(lambda w, x, squash=squash: x + squash(x @ w))(w, x)
    return jnp.mean(x**2)


def scanned(w, x, act):
    def step(carry, _):
        return act(carry @ w), None

    return lax.scan(jax.jit(step), x, None, length=4)[0].sum()


def line_of(fun, text):
    lines, first = inspect.getsourcelines(fun)
    return first + next(k for k, line in enumerate(lines) if text in line)


def located(fun, *args, argnums=0, has_aux=False, differing=(), reference=None):
    traced = cg.value_and_grad(fun, argnums, has_aux, allow_int=True).trace(*args)
    return locate_wrong(traced, None, reference, differing)


@pytest.fixture(scope="module")
def args():
    return [normal(1 + k, 8, 8, scale=0.3) for k in range(LAYERS)], normal(0, 4, 8)


@pytest.fixture
def wrong_cosh():
    """ckptgrad's own rule for cosh replaced by one that is off by FACTOR."""
    own = unregister("cosh")
    cg.bprop_rule("cosh")(lambda op, g: (FACTOR * g * jnp.sinh(op.inputs[0]),))
    yield
    unregister("cosh")
    register(own)


def test_wrong_bprop_rule(args, wrong_cosh):
    with pytest.raises(ValidationError, match=r"stage 5, cosh at test_locate.py") as caught:
        validate(lambda ws, x: chain(ws, x, jnp.cosh), *args, locate=True, **QUICK)
    (found,) = caught.value.validation.findings
    assert (found.kind, found.stage, found.primitive, found.input) == (RULE, 5, "cosh", 0)
    assert found.source.line == line_of(chain, "cg.stage")
    assert (found.shape, found.dtype) == ((4, 8), "float32")
    assert found.relative == pytest.approx(FACTOR - 1, rel=0.01)


def test_wrong_bprop_rule_in_a_loop(args, wrong_cosh):
    found = located(lambda w, x: scanned(w, x, lax.cosh), 0.3 * args[0][0], args[1], differing=["optimal"]).findings
    assert [(f.kind, f.primitive, f.inside, f.source.line) for f in found] == [
        (RULE, "cosh", ("scan",), line_of(scanned, "act(carry"))
    ]


def test_wrong_custom_rule_in_text_and_json(args):
    with pytest.raises(ValidationError, match="custom rule is not the derivative of its function") as caught:
        validate(lambda ws, x: chain(ws, x, vjp_rule(FACTOR)), *args, locate=True, **QUICK)
    table = caught.value.validation
    assert table["store_all"].gradient.excess < 1
    line = line_of(chain, "cg.stage")
    text = f"wrong: stage 5, custom_vjp `squash` at test_locate.py:{line} (<lambda>): cotangent of input 0,"
    assert text in " ".join(str(table).split())
    found = json.loads(json.dumps(table.to_dict()))
    assert found["passed"] is False
    assert found["findings"][0]["stage"] == 5
    assert found["findings"][0]["function"] == "squash"
    assert found["findings"][0]["source"].endswith(f"test_locate.py:{line} (chain.<locals>.<lambda>)")


def test_only_when_asked_for():
    def loss(x):
        return jnp.sum(rounded(x) ** 2)

    table = validate(loss, jnp.linspace(0, 3, 7), **QUICK)
    assert table.passed
    assert table.findings == ()
    assert table.checked is None
    (found,) = located(loss, jnp.linspace(0, 3, 7)).findings
    assert (found.kind, found.function) == (CUSTOM, "rounded")
    assert found.to_dict()["relative_difference"] is None


SMALL = jnp.array([-1.5, -0.3, 0.4, 1.2])

WRONG = {
    "custom_jvp": (lambda x: jvp_rule(FACTOR)(x).sum(), (SMALL,), "squash", (), 0),
    "in a jit": (lambda x: jax.jit(vjp_rule(FACTOR))(x).sum(), (SMALL,), "squash", (), 0),
    "in a scan": (lambda x: scanned(jnp.eye(4), x, vjp_rule(FACTOR)), (SMALL,), "squash", ("scan",), 0),
    "in a scan, backwards": (
        lambda x: lax.scan(lambda c, y: (jvp_rule(FACTOR)(c * y), c), x, jnp.ones(3), reverse=True)[0].sum(),
        (SMALL,),
        "squash",
        ("scan",),
        0,
    ),
    "in a branch": (lambda x: lax.cond(x[0] < 0, vjp_rule(FACTOR), jnp.sin, x).sum(), (SMALL,), "squash", ("cond",), 0),
    "in a branch in a scan": (
        lambda x: scanned(jnp.eye(4), x, lambda c: lax.cond(c[0] < 0, vjp_rule(FACTOR), jnp.sin, c)),
        (SMALL,),
        "squash",
        ("scan", "cond"),
        0,
    ),
    "bfloat16": (
        lambda x: vjp_rule(1.2)(x).sum().astype(jnp.float32),
        (SMALL.astype(jnp.bfloat16),),
        "squash",
        (),
        0,
    ),
    "third input": (lambda x: product(2.0, x, jnp.sin(x)).sum(), (SMALL,), "product", (), 2),
    "an integer output": (lambda x: counted(x)[0].sum(), (SMALL,), "counted", (), 0),
    "complex, with a key": (
        lambda x, key: jnp.sum(jnp.abs(noisy(key, x + 1j * x**2)[0])),
        (SMALL, jax.random.key(0)),
        "noisy",
        (),
        1,
    ),
    "by differences": (lambda x: called_back_cube(FACTOR)(x).sum(), (SMALL,), "cube", (), 0),
    "small cotangents": (lambda x: 0.01 * clipped(x).sum(), (SMALL,), "clipped", (), 0),
    "zero cotangents": (lambda x: 0 * vjp_rule(FACTOR)(x).sum(), (SMALL,), "squash", (), 0),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_custom_rule_is_found(name):
    fun, args, function, inside, position = WRONG[name]
    (found,) = located(fun, *args).findings
    assert (found.kind, found.function, found.inside, found.input) == (CUSTOM, function, inside, position)
    assert found.source.file == __file__


RIGHT = {
    "custom_vjp": (lambda x: vjp_rule(1)(x).sum(), SMALL),
    "custom_jvp": (lambda x: jvp_rule(1)(x).sum(), SMALL),
    "in a scan": (lambda x: scanned(jnp.eye(4), x, vjp_rule(1)), SMALL),
    "bfloat16": (lambda x: jvp_rule(1)(x).sum().astype(jnp.float32), SMALL.astype(jnp.bfloat16)),
    "by differences": (lambda x: called_back_cube(1)(x).sum(), SMALL),
    # The function's own derivative has a kink there, or overflows.
    "relu at zero": (lambda x: jax.nn.relu(x).sum(), jnp.array([0.0, 1.0])),
    "softplus of large values": (lambda x: softplus(x).sum(), jnp.array([100.0, -100.0, 0.5])),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_custom_rule_is_left_alone(name):
    found = located(*RIGHT[name])
    assert found.findings == ()
    assert found.checked >= 1


def test_what_cannot_be_compared_is_said_and_no_failure():
    table = validate(lambda x: softplus(x).sum(), jnp.array([1000.0]), locate=True, **QUICK)
    assert table.passed
    assert [f.kind for f in table.findings] == [UNCHECKED]
    assert "not checked" in str(table)


def test_aux_argnums_and_integers(args):
    def loss(n, w, aside):
        hidden = vjp_rule(FACTOR)(w * n)
        return hidden.sum(), {"aside": vjp_rule(FACTOR)(aside)}

    found = located(loss, 3, args[0][0], args[1], argnums=(1, 2), has_aux=True)
    assert [(f.source.line, f.shape) for f in found.findings] == [(line_of(loss, "hidden ="), (8, 8))]
    assert found.checked == 1


@pytest.mark.parametrize(("factor", "said"), [(1.0, "no rule is wrong"), (1.5, "no single operation is wrong")])
def test_gradient_that_differs_though_no_operation_does(factor, said):
    (found,) = located(
        lambda x: jnp.sum(jnp.sin(x)), SMALL, differing=["optimal"], reference=factor * jnp.cos(SMALL)
    ).findings
    assert found.kind == UNLOCATED
    assert said in found.message


MODEL = """
import jax, jax.numpy as jnp

@jax.custom_vjp
def twice(x):
    return 2 * x

twice.defvjp(lambda x: (2 * x, None), lambda _, ct: (3 * ct,))

def loss(x):
    return twice(x).sum()

example_args = (jnp.ones(3),)
"""


def test_command_line(tmp_path, monkeypatch):
    (tmp_path / "locatemodel.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "locatemodel", raising=False)
    words = ["validate", "locatemodel:loss", "locatemodel:example_args", "--repeats", "1", "--meters", "none"]
    assert CliRunner().invoke(app, words).exit_code == 0
    result = CliRunner().invoke(app, [*words, "--locate"])
    assert result.exit_code == 1
    assert "custom_vjp `twice` at locatemodel.py:11 (loss)" in " ".join(result.output.split())
