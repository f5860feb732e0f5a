"""Gradients that are taken inside `shard_map`, where types say along which axes of the mesh values vary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.stage.joint import joint
from tests.support.compare import assert_same, quick
from tests.support.devices import on_four_devices

RING = [(0, 1), (1, 2), (2, 3), (3, 0)]


def two_products(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w)


def scanned(x, w):
    return lax.scan(lambda c, _: (jnp.tanh(c @ w), (c * w[0]).sum()), x, None, length=3)


def scan_with_sums(x, w):
    """The carried value does not vary, what is summed into it does."""
    return lax.scan(lambda c, row: (c * 0.5 + lax.psum((row @ w).sum(), "i"), None), jnp.float32(1), x)[0]


def looped(loop, x, w):
    return loop(lambda c, _: (jnp.tanh(c @ w), (c * w[0]).sum()), x, None, length=4)


@jax.custom_vjp
def clipped(x, w):
    return jnp.sin(x) @ w


clipped.defvjp(lambda x, w: (clipped(x, w), (x, w)), lambda r, g: (jnp.cos(r[0]) * (g @ r[1].T), jnp.sin(r[0]).T @ g))


@jax.custom_jvp
def doubled(x):
    return x * 2


doubled.defjvp(lambda p, t: (doubled(p[0]), 3.0 * t[0]))


def while_loop(x, w):
    return lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c @ w) * (i + 1), x)


def written(x, w):
    rows = jnp.zeros_like(jnp.stack([x] * 3))
    return lax.fori_loop(0, 3, lambda i, s: (jnp.tanh(s[0] @ w), s[1].at[i].set(s[0])), (x, rows))[1]


# Of rows that vary between devices and of replicated weights.
LOSSES = {
    "pmean": lambda x, w: lax.pmean((two_products(x, w) ** 2).mean(), "i"),
    "psum": lambda x, w: lax.psum((jnp.where(x @ w > 0, x @ w, 0.1) * jnp.arange(4.0)).sum() * 0.5, "i") / 64,
    "no communication": lambda x, w: (two_products(x, w) ** 2).sum(),
    "weights alone": lambda x, w: (jnp.sin(w) ** 2).sum(),
    "rows alone": lambda x, w: (jnp.sin(x) ** 2).sum(),
    "all_gather": lambda x, w: (jnp.sin(lax.all_gather(x, "i", tiled=True).sum(0)) * (x @ w)).sum(),
    "ppermute": lambda x, w: (lax.ppermute(jnp.sin(x @ w), "i", RING) * x).sum(),
    "psum_scatter": lambda x, w: lax.psum((lax.psum_scatter(jnp.tile(x @ w, (4, 1)), "i", tiled=True) ** 2).sum(), "i"),
    "all_to_all": lambda x, w: (lax.all_to_all(jnp.tile(x[:1] @ w, (4, 1)), "i", 0, 0, tiled=True) ** 2 * x[0]).sum(),
    "axis_index": lambda x, w: lax.psum((x @ w * (lax.axis_index("i") + 1)).sum() ** 2, "i"),
    "pmax of what is not differentiated": lambda x, w: lax.pmean(
        jnp.sum(jnp.exp(x @ w - lax.pmax(lax.stop_gradient(x.max()), "i"))), "i"
    ),
    "psum inside": lambda x, w: (jnp.tanh(x @ w / lax.psum((x @ w).max() ** 2, "i")) ** 2).sum(),
    "weights cast": lambda x, w: lax.psum((x @ lax.pcast(jnp.sin(w), "i", to="varying")).sum(), "i"),
    "scan": lambda x, w: lax.pmean(sum(a.sum() for a in scanned(x, w)) ** 2, "i"),
    "scan with sums": scan_with_sums,
    "cond": lambda x, w: lax.psum(lax.cond(x[0, 0] > 0, lambda x: x @ x.T, lambda x: jnp.sin(x @ x.T), x @ w).sum(), "i"),
    "cond of replicated": lambda x, w: lax.psum(lax.cond(w[0, 0] > 0, lambda: x @ w, lambda: jnp.sin(x)).sum(), "i"),
    "while": lambda x, w: lax.pmean((while_loop(x, w) ** 2).sum(), "i"),
    "custom_vjp": lambda x, w: lax.pmean((clipped(x, lax.pcast(w, "i", to="varying")) ** 2).sum(), "i"),
    "cg.scan": lambda x, w: lax.pmean(sum(a.sum() for a in looped(cg.scan, x, w)) ** 2, "i"),
    "cg.checkpoint": lambda x, w: lax.pmean(
        (cg.checkpoint(two_products, policy="recompute_all")(x, lax.pcast(w, "i", to="varying")) ** 2).sum(), "i"
    ),
    "custom_jvp": lambda x, w: lax.pmean((doubled(x @ w) * doubled(w[0]) + doubled(jnp.float32(2))).sum(), "i"),
    "logsumexp": lambda x, w: lax.pmean(jax.nn.logsumexp(jax.nn.relu(x @ w)).mean(), "i"),
    "indexing": lambda x, w: lax.psum((x @ w)[:, 1:][::-1, jnp.array([0, 2])].sum() + jnp.sort(w[0])[0] * x[0, 0], "i"),
    "updates": lambda x, w: lax.psum((jnp.zeros((4, 4)).at[0].set(w[1] * 2).at[1].add(x[0]) ** 2).sum(), "i"),
    "linalg": lambda x, w: lax.psum((jnp.linalg.solve(w + 3 * jnp.eye(4), x.T) ** 2).sum() + jnp.linalg.det(w), "i"),
    "checkpoint": lambda x, w: lax.pmean((jax.checkpoint(two_products)(x, w) ** 2).sum(), "i"),
    "vmap": lambda x, w: lax.pmean(jax.vmap(lambda r: lax.psum(jnp.sin(r @ w), "i").sum() * r.sum())(x).sum(), "i"),
    "jit": lambda x, w: lax.pmean(jax.jit(two_products)(x, w).sum(), "i"),
    "written": lambda x, w: lax.psum((written(x, w) ** 2).sum(), "i"),
}
# Quick ones; all the others are slow tests.
FEW = ["pmean", "psum", "no communication", "all_gather", "scan with sums"]


def mapped(gradients, fun, typed, mesh):
    def run(x, w):
        value, found = gradients(fun)(x, w)
        return jnp.reshape(value, (1,)), found

    spec = (P("i"), (P("i"), P()))
    inside = jax.shard_map(run, mesh=mesh, in_specs=(P("i"), P()), out_specs=spec, check_vma=typed)
    x = jnp.linspace(-1, 1, 32).reshape(8, 4)
    w = 0.5 * jnp.eye(4) + jnp.linspace(0, 0.1, 16).reshape(4, 4)
    return quick(inside)(x, w)


def check(name: str) -> None:
    """Values and gradients of one loss as JAX gives them, with and without types, for budgets."""
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
    for typed in (True, False):
        wanted = mapped(lambda f: jax.value_and_grad(f, (0, 1)), LOSSES[name], typed, mesh)
        for budget in (None, "min"):
            found = mapped(lambda f, b=budget: cg.value_and_grad(f, (0, 1), budget=b), LOSSES[name], typed, mesh)
            assert_same(found, wanted, scale=40, whole=True)


def check_twice(name: str) -> None:
    """Gradients of gradients."""

    def curved(grad):
        def gradients(fun):
            return lambda x, w: (fun(x, w), grad(lambda x, w: grad(fun, 1)(x, w).sum(), (0, 1))(x, w))

        return gradients

    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
    found, wanted = (mapped(curved(grad), LOSSES[name], True, mesh) for grad in (cg.grad, jax.grad))
    assert_same(found, wanted, scale=100, whole=True)


def check_two_axes() -> None:
    """A mesh of two axes, of which the values vary along one, the other, both or none."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    x, y, w = jnp.linspace(-1, 1, 8).reshape(4, 2), jnp.linspace(0, 1, 8).reshape(2, 4), jnp.linspace(1, 2, 8).reshape(2, 4)

    def loss(x, y, w):
        return lax.pmean(lax.psum((jnp.tanh(x @ w) * lax.pmean(x @ y, "a") * lax.psum(y[0, 0], "b")).sum(), "b"), "a")

    def run(grad):
        specs = P("a"), P(None, "b"), P()
        y_twice = jnp.concatenate([y, y], 1)
        return quick(jax.shard_map(grad(loss, (0, 1, 2)), mesh=mesh, in_specs=specs, out_specs=specs))(x, y_twice, w)

    assert_same(run(cg.grad), run(jax.grad), scale=40)


def check_vmap_over_devices() -> None:
    """`vmap` whose rows are devices (`spmd_axis_name`) around the gradient of a loss with a `shard_map` or constraint."""
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
    rows, w = jnp.linspace(-1, 1, 32).reshape(4, 2, 4), jnp.eye(4)

    def loss(w, x):
        return (lax.with_sharding_constraint(jnp.tanh(x @ w), jax.NamedSharding(mesh, P())) ** 2).sum()

    def run(grad):
        return quick(jax.vmap(grad(loss), in_axes=(None, 0), spmd_axis_name="i"))(w, rows)

    assert_same(run(cg.grad), run(jax.grad), scale=20)


def check_reduced_and_unreduced() -> None:
    """Weights that are reduced have unreduced gradients, which are summed when the user says so."""
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
    x, w = jnp.linspace(-1, 1, 32).reshape(8, 4), jnp.linspace(0, 1, 16).reshape(4, 4)

    def loss(x, w):
        held = lax.pcast(w, "i", to="reduced")
        partial = lax.pcast((jnp.tanh(x @ lax.pcast(held, "i", to="varying")) ** 2).sum(), "i", to="unreduced")
        return lax.psum(partial, "i")

    def unreduced(x, w):
        gathered = lax.all_gather(x, "i", tiled=True, to="reduced")
        part = jnp.sin(lax.pcast(gathered, "i", to="varying")) @ w
        return (lax.psum_scatter(lax.pcast(part, "i", to="unreduced"), "i", tiled=True) ** 2).sum()

    for fun in (loss, unreduced):
        run = [
            quick(jax.shard_map(grad(fun, (0, 1)), mesh=mesh, in_specs=(P("i"), P()), out_specs=(P("i"), P())))(x, w)
            for grad in (cg.grad, jax.grad)
        ]
        assert_same(*run, scale=40)


def check_examples_on_an_axis():
    """`spmd_axis_name`: examples are spread over an axis that the map inside does not mention."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    x = jnp.sin(jnp.arange(16.0)).reshape(4, 4)
    for typed in (False, True):

        def loss(x):
            return lax.psum(jnp.sin(x.sum()) * x[0], "b")

        mapped = jax.shard_map(loss, mesh=mesh, in_specs=P("b"), out_specs=P(), check_vma=typed)
        wanted = jax.vmap(jax.grad(mapped))(x)
        assert_same(jax.vmap(cg.grad(mapped))(x), wanted, scale=10)
        assert_same(jax.vmap(cg.grad(mapped), spmd_axis_name="a")(x), wanted, scale=10)


def check_maps_of_reduced_arguments():
    """Around a `shard_map`: an argument that is reduced over an axis has unreduced gradients, typed or not."""
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Explicit,))
    x, w = jax.device_put(jnp.arange(8.0), jax.NamedSharding(mesh, P("i"))), jnp.linspace(1, 2, 2)
    w = jax.device_put(w, jax.NamedSharding(mesh, P(None, reduced={"i"})))

    for typed in (True, False):

        @jax.shard_map(mesh=mesh, in_specs=(P("i"), P(None, reduced={"i"})), out_specs=P("i"), check_vma=typed)
        def scaled(x, w):
            return jnp.sin(x) * w

        def run(grad):
            found = jax.jit(grad(lambda x, w: scaled(x, w).sum(), argnums=(0, 1)))(x, w)
            assert found[1].sharding.spec.unreduced == {"i"}
            return found[0], jax.reshard(found[1], P())

        with jax.set_mesh(mesh):
            assert_same(run(cg.grad), run(jax.grad), scale=10)


def check_a_weight_without_a_mesh():
    """The cotangent of a value that knows no mesh, of a product with one that is sharded over an explicit mesh."""
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Explicit,))
    x, w = jax.device_put(jnp.ones((8, 4)), jax.NamedSharding(mesh, P("i"))), jnp.ones((4, 3))
    with jax.set_mesh(mesh):
        found = jax.jit(cg.grad(lambda w, x: (x @ w).sum()))(w, x)
    assert found.sharding == jax.NamedSharding(mesh, P(None, None))
    assert (found == 8).all()


def joint_of_mapped(fun, *args):
    """The joint graph of a function that is mapped over one device, towards all its arguments."""
    mapped = jax.shard_map(
        fun, mesh=jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,)), in_specs=P("i"), out_specs=P("i")
    )
    graph = from_jaxpr(jax.make_jaxpr(mapped)(*args))
    return joint(graph, graph.inputs, graph.outputs)


def test_what_is_returned_or_cheap_is_not_kept_besides():
    """Of tanh its backward reads the result, and one minus it."""
    joined = joint_of_mapped(lambda x, w: jnp.tanh(x @ w), jnp.ones((4, 3)), jnp.ones((3, 3)))
    forward, backward = joined.operations
    assert len(forward.outputs) == 1
    assert forward.outputs[0] in backward.inputs


def test_nothing_flows_back_to_what_is_read_for_its_shape():
    joined = joint_of_mapped(lambda x, y: jnp.sin(x) + jnp.zeros_like(y), jnp.ones(4), jnp.ones(4))
    assert joined.gradients[0] is not None
    assert joined.gradients[1] is None
    assert len(joined.backward_operations[-1].outputs) == 1


def test_gradients_inside_a_shard_map():
    on_four_devices(__name__, "[check(name) for name in FEW[:2]]; check_reduced_and_unreduced()")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in FEW[:2]])
def test_more_gradients_inside_a_shard_map(name):
    on_four_devices(__name__, f"check({name!r})")


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_second_derivatives_inside_a_shard_map(name):
    on_four_devices(__name__, f"check_twice({name!r})")


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        "check_two_axes()",
        "check_vmap_over_devices()",
        "check_examples_on_an_axis()",
        "check_maps_of_reduced_arguments()",
        "check_a_weight_without_a_mesh()",
    ],
)
def test_more_axes(check):
    on_four_devices(__name__, check)


@pytest.mark.parametrize("options", [{}, {"policy": "recompute_all"}])
def test_a_result_that_nothing_reads_gets_no_zeros(options):
    """They are nan where they meet an infinite derivative."""
    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))

    def loss(x):
        both = jax.shard_map(lambda x: (2 * x, jnp.sqrt(x)), mesh=mesh, in_specs=P("i"), out_specs=P("i"))
        return both(x)[0].sum()

    assert_same(quick(cg.grad(loss, **options))(jnp.zeros(4)), jax.grad(loss)(jnp.zeros(4)))
