"""Ways to spread a model over eight devices, each a loss with its arguments laid out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

WIDTH, HIDDEN = 16, 32


class Size(NamedTuple):
    """How many layers a model has, one after the other or as steps of a loop, and about how many rows of activations."""

    depth: int
    steps: int
    rows: int

    @property
    def times(self) -> int:
        """How much longer each of two axes of rows is than in the small size."""
        return isqrt(self.rows // 512)


SMALL = Size(4, 4, 512)
# Activations are most of what a device holds, as where models are spread to be trained.
LARGE = Size(12, 36, 8192)


def mesh_of(shape: tuple[int, ...], names: tuple[str, ...], kind: str = "Auto") -> Mesh:
    return jax.make_mesh(shape, names, axis_types=(AxisType[kind],) * len(names))


def numbers(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(shape)


def block(x, w):
    """A layer with a hidden one inside, and a residual connection."""
    return x + jnp.tanh(x @ w["in"]) @ w["out"]


def layers(ws, x):
    for w in ws:
        x = block(x, w)
    return (x**2).mean()


def scanned(ws, x):
    return (lax.scan(lambda x, w: (block(x, w), None), x, ws)[0] ** 2).mean()


def parameters(depth: int) -> list[dict[str, np.ndarray]]:
    return [
        {"in": numbers((WIDTH, HIDDEN), 2 * i, 0.3), "out": numbers((HIDDEN, WIDTH), 2 * i + 1, 0.3)} for i in range(depth)
    ]


def placed(mesh: Mesh, values: Any, specs: Any) -> Any:
    """Values on a mesh; `specs` is a prefix of them."""
    full = jax.tree.broadcast(specs, values, is_leaf=lambda x: isinstance(x, P))
    return jax.tree.map(lambda x, s: jax.device_put(jnp.asarray(x), NamedSharding(mesh, s)), values, full)


def plain(shape, names, weights, rows, kind="Auto", loss=layers, size=SMALL):
    """Layers on a mesh: the specifications of the two weights of each, and of the batch."""
    mesh = mesh_of(shape, names, kind)
    specs = dict(zip(("in", "out"), weights, strict=True))
    x = numbers((size.rows, WIDTH), 99)
    return loss, (placed(mesh, parameters(size.depth), [specs] * size.depth), placed(mesh, x, rows))


def stacked(shape, names, weights, rows, kind="Auto", size=SMALL):
    mesh = mesh_of(shape, names, kind)
    ws = jax.tree.map(lambda *xs: np.stack(xs), *parameters(size.steps))
    specs = dict(zip(("in", "out"), (P(None, *w) for w in weights), strict=True))
    return scanned, (placed(mesh, ws, specs), placed(mesh, numbers((size.rows, WIDTH), 99), rows))


def gathered(shape=(8,), size=SMALL):
    """Parameters that are gathered where they are used, as the user says by constraints."""
    mesh = mesh_of(shape, ("data",))
    whole = NamedSharding(mesh, P())

    def loss(ws, x):
        return layers([jax.tree.map(lambda w: lax.with_sharding_constraint(w, whole), w) for w in ws], x)

    _, args = plain(shape, ("data",), (P("data"), P("data")), P("data"), size=size)
    return loss, args


def sequence_parallel(size=SMALL):
    """Attention over a sequence that is spread over the devices: what is attended to is gathered."""
    mesh = mesh_of((2, 4), ("data", "sequence"))

    def loss(ws, x):
        for w in ws:
            q, k, v = (x @ w[name] for name in "qkv")
            scores = jnp.einsum("bqd,bkd->bqk", q, k) / WIDTH**0.5
            x = x + jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(scores), v)
            x = lax.with_sharding_constraint(x, NamedSharding(mesh, P("data", "sequence")))
        return (x**2).mean()

    ws = [{name: numbers((WIDTH, WIDTH), 3 * i + k, 0.1) for k, name in enumerate("qkv")} for i in range(size.depth)]
    x = numbers((4, size.rows // 32, WIDTH), 99)
    return loss, (placed(mesh, ws, P()), placed(mesh, x, P("data", "sequence")))


def experts(size=SMALL):
    """Layers of eight experts, one a device; the rows of each come from all devices."""
    mesh = mesh_of((8,), ("expert",))
    by_expert = NamedSharding(mesh, P("expert"))

    def loss(ws, x):
        for w in ws:
            gate = jax.nn.softmax(x @ w["gate"])
            sent = lax.with_sharding_constraint(jnp.einsum("re,rd->erd", gate, x), by_expert)
            made = jnp.tanh(jnp.einsum("erd,edh->erh", sent, w["in"]))
            x = x + jnp.einsum("erh,ehd->rd", made, w["out"])
        return (x**2).mean()

    ws = [
        {
            "gate": numbers((WIDTH, 8), 3 * i, 0.3),
            "in": numbers((8, WIDTH, WIDTH), 3 * i + 1, 0.3),
            "out": numbers((8, WIDTH, WIDTH), 3 * i + 2, 0.1),
        }
        for i in range(size.depth)
    ]
    specs = [{"gate": P(), "in": P("expert"), "out": P("expert")}] * size.depth
    return loss, (placed(mesh, ws, specs), placed(mesh, numbers((size.rows, WIDTH), 99), P("expert")))


def pipeline(size=SMALL):
    """Eight stages, one a device, through which parts of the batch pass: `shard_map` and `ppermute`."""
    each = size.depth // 4
    mesh, parts = mesh_of((8,), ("stage",)), 4

    def loss(ws, x):
        @partial(jax.shard_map, mesh=mesh, in_specs=(P("stage"), P()), out_specs=P("stage"))
        def run(w, x):
            number = lax.axis_index("stage")
            here = lax.pcast(jnp.zeros_like(x[0]), ("stage",), to="varying")
            done = []
            for step in range(parts + 7):
                here = jnp.where(number == 0, x[min(step, parts - 1)], here)
                for layer in range(each):
                    here = block(here, jax.tree.map(lambda a: a[0, layer], w))
                if step >= 7:
                    done.append(here)
                here = lax.ppermute(here, "stage", [(i, (i + 1) % 8) for i in range(8)])
            return jnp.stack(done)[None]

        return (run(ws, x)[-1] ** 2).mean()

    ws = stacked_parameters(8, each)
    return loss, (placed(mesh, ws, P("stage")), placed(mesh, numbers((parts, size.rows // 64, WIDTH), 99), P()))


def mapped(check: bool = True, size=SMALL):
    """A loss around layers in a `shard_map`, with parameters gathered by hand."""
    mesh = mesh_of((8,), ("data",))

    def loss(ws, x):
        for w in ws:

            @partial(jax.shard_map, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P("data"), check_vma=check)
            def run(w, x):
                return block(x, jax.tree.map(lambda a: lax.all_gather(a, "data", tiled=True), w))

            x = run(w, x)
        return (x**2).mean()

    _, args = plain((8,), ("data",), (P("data"), P("data")), P("data"), size=size)
    return loss, args


def whole_loss_mapped(size=SMALL):
    """A loss that is a `shard_map` as a whole."""
    mesh = mesh_of((8,), ("data",))

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    def loss(ws, x):
        return lax.pmean(layers(ws, x), "data")

    _, args = plain((8,), ("data",), (P(), P()), P("data"), size=size)
    return loss, args


def stacked_parameters(*depth: int) -> dict[str, np.ndarray]:
    return {"in": numbers((*depth, WIDTH, HIDDEN), 1, 0.3), "out": numbers((*depth, HIDDEN, WIDTH), 2, 0.3)}


def looped(kind: str = "Auto", size=SMALL):
    """Layers in a scan inside a `shard_map`, their parameters gathered by hand; it counts them, and carries a sum."""
    mesh = mesh_of((8,), ("data",), kind)

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(None, "data"), P("data")), out_specs=P())
    def loss(ws, x):
        def step(carry, w):
            x, total, count = carry
            x = block(x, jax.tree.map(lambda a: lax.all_gather(a, "data", tiled=True), w))
            return (x, total + x.sum() * count, count + 1), x.mean()

        start = lax.pcast(jnp.zeros(()), ("data",), to="varying")
        (x, total, _), means = lax.scan(step, (x, start, 0), ws)
        return lax.pmean((x**2).mean() + 1e-3 * total + (means**3).sum(), "data")

    return loss, (
        placed(mesh, stacked_parameters(size.steps), P(None, "data")),
        placed(mesh, numbers((size.rows, WIDTH), 99), P("data")),
    )


def recurrent(check: bool = False, size=SMALL):
    """A recurrence with whole weights over what each device has, time cut over devices; states are returned."""
    mesh = mesh_of(*_TWO)

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=(P("data"), P("data")), check_vma=check)
    def run(w, x):
        def step(carry, x):
            h, i = carry
            for _ in range(size.depth // 4):
                h = jnp.tanh(x + h @ w["in"] @ w["out"]) * jnp.where(i % 2, 1.0, 0.9)
            return (h, i + 1), h

        (h, _), states = lax.scan(step, (jnp.zeros_like(x[0]), 0), x)
        return h[None], states

    def loss(w, x):
        h, states = run(w, x)
        return (h**2).mean() + (states**3).mean()

    w = jax.tree.map(lambda a: a[0], stacked_parameters(1))
    return loss, (placed(mesh, w, P()), placed(mesh, numbers((size.rows // 8, 8, WIDTH), 99), P("data")))


def ring_attention(size=SMALL):
    """A scan over layers, in each a `shard_map`, in each a loop in which keys and values go round."""
    mesh, around = mesh_of((2, 4), ("data", "sequence")), [(i, (i + 1) % 4) for i in range(4)]

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data", "sequence")), out_specs=P("data", "sequence"))
    def attend(w, x):
        q, k, v = (x @ w[name] for name in "qkv")

        def step(carry, _):
            k, v, mixed, total = carry
            scores = jnp.exp(jnp.einsum("bqd,bkd->bqk", q, k) / WIDTH**0.5)
            mixed, total = mixed + jnp.einsum("bqk,bkd->bqd", scores, v), total + scores.sum(-1)
            return (*(lax.ppermute(a, "sequence", around) for a in (k, v)), mixed, total), None

        start = k, v, jnp.zeros_like(q), jnp.zeros_like(q[..., 0])
        (_, _, mixed, total), _ = lax.scan(step, start, None, length=4)
        return x + mixed / total[..., None]

    def loss(ws, x):
        return (lax.scan(lambda x, w: (attend(w, x), None), x, ws)[0] ** 2).mean()

    ws = {name: numbers((size.steps, WIDTH, WIDTH), k, 0.1) for k, name in enumerate("qkv")}
    x = numbers((8 * size.times, 32 * size.times, WIDTH), 99)
    return loss, (placed(mesh, ws, P()), placed(mesh, x, P("data", "sequence")))


def pipeline_of_ticks(size=SMALL):
    """As `pipeline`, its steps in a scan."""
    mesh, parts, each = mesh_of((8,), ("stage",)), 4, size.depth // 4

    @partial(jax.shard_map, mesh=mesh, in_specs=(P("stage"), P()), out_specs=P("stage"))
    def run(w, x):
        number, w = lax.axis_index("stage"), jax.tree.map(lambda a: a[0], w)

        def tick(here, time):
            here = jnp.where(number == 0, x[jnp.minimum(time, parts - 1)], here)
            for layer in range(each):
                here = block(here, jax.tree.map(lambda a: a[layer], w))
            return lax.ppermute(here, "stage", [(i, (i + 1) % 8) for i in range(8)]), here

        start = lax.pcast(jnp.zeros_like(x[0]), ("stage",), to="varying")
        return lax.scan(tick, start, jnp.arange(parts + 7))[1][7:][None]

    x = numbers((parts, size.rows // 64, WIDTH), 99)
    mesh_args = placed(mesh, stacked_parameters(8, each), P("stage")), placed(mesh, x, P())
    return lambda ws, x: (run(ws, x)[-1] ** 2).mean(), mesh_args


_TWO = (4, 2), ("data", "model")
# From the name of a way to what makes its loss and arguments, of a `size`.
WAYS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "data parallel": partial(plain, (8,), ("data",), (P(), P()), P("data")),
    "sharded parameters": partial(plain, (8,), ("data",), (P("data"), P("data")), P("data")),
    "gathered parameters": gathered,
    "tensor parallel": partial(plain, (8,), ("model",), (P(None, "model"), P("model")), P()),
    "data x tensor": partial(plain, *_TWO, (P(None, "model"), P("model")), P("data")),
    "sharded data x tensor": partial(plain, *_TWO, (P("data", "model"), P("model", "data")), P("data")),
    "sequence parallel": sequence_parallel,
    "experts": experts,
    "pipeline": pipeline,
    "mapped layers": mapped,
    "mapped layers, untyped": partial(mapped, check=False),
    "a mapped loss": whole_loss_mapped,
    "a mapped loop": looped,
    "a mapped recurrence": partial(recurrent, check=True),
    "a mapped recurrence, untyped": recurrent,
    "ring attention": ring_attention,
    "a pipeline of ticks": pipeline_of_ticks,
    "scanned, data parallel": partial(stacked, (8,), ("data",), (P(), P()), P("data")),
    "scanned, sharded parameters": partial(stacked, (8,), ("data",), (P("data"), P("data")), P("data")),
    "scanned, data x tensor": partial(stacked, *_TWO, (P(None, "model"), P("model")), P("data")),
    "explicit, data parallel": partial(plain, (8,), ("data",), (P(), P()), P("data"), "Explicit"),
    "explicit, scanned": partial(stacked, (8,), ("data",), (P(), P()), P("data"), "Explicit"),
    "explicit, a mapped loop": partial(looped, kind="Explicit"),
}
