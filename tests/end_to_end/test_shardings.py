"""Shardings of arguments: what is compiled is the program for them, and the certificate is that of one device."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory
from tests.support.compare import assert_same
from tests.support.devices import on_four_devices

W = np.eye(16, dtype=np.float32)[None].repeat(2, 0) * 0.5
X = np.linspace(-1, 1, 64 * 16, dtype=np.float32).reshape(64, 16)


def layers(w, x):
    for i in range(len(w)):
        x = jnp.tanh(x @ w[i])
    return (x**2).mean()


def scanned(w, x):
    return (lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0] ** 2).mean()


def constrained(w, x):
    where = NamedSharding(jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,)), P("d"))
    for i in range(len(w)):
        x = lax.with_sharding_constraint(jnp.tanh(x @ w[i]), where)
    return (x**2).mean()


LOSSES = {f.__name__: f for f in (layers, scanned, constrained)}


def structs(args):
    return tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for a in args)


def check_compiled(loss: str, kind: str, context: bool, *spec: str | None) -> None:
    """The compiled gradient beside `jax.value_and_grad`, and its peak beside that of the program under plain jit."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType[kind],))
    fun = LOSSES[loss]
    with jax.set_mesh(mesh) if context else contextlib.nullcontext():
        args = jax.device_put(W, NamedSharding(mesh, P(*spec))), jax.device_put(X, NamedSharding(mesh, P("d")))
        wanted = jax.jit(jax.value_and_grad(fun, (0, 1)))(*args)
        for options in ({"budget": "min"}, {"costs": "measure"}):
            door = cg.value_and_grad(fun, (0, 1), shardings=tuple(a.sharding for a in args), **options)
            plain = compiled_memory(jax.jit(door).lower(*args).compile())
            for given in (args, structs(args)):
                certified = door.compile(*given)
                # While tracing, plans are made from estimates.
                assert certified.peak_bytes <= plain.peak_bytes
                check_same(certified(*args), wanted)


def check_same(found, wanted) -> None:
    assert_same(found, wanted, scale=8)
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert f.sharding.is_equivalent_to(w.sharding, w.ndim), (f.sharding, w.sharding)


def check_other_doors() -> None:
    """`validate`, `timeline` and `frontier` take sharded arguments; what one device holds is observed."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    x = np.linspace(-1, 1, 4096 * 16, dtype=np.float32).reshape(4096, 16)
    args = jax.device_put(W, NamedSharding(mesh, P())), jax.device_put(x, NamedSharding(mesh, P("d")))
    assert cg.validate(layers, *args, budget="min", policies="optimal", meters=("resident",), repeats=1).passed
    course = cg.timeline(layers, *args, budget="min", observe=("xla", "ledger"))
    assert course.readings["ledger"].bytes <= course.readings["xla"].bytes < x.nbytes + W.nbytes
    assert cg.frontier(layers, *args, costs="compile").points


def check_another_device() -> None:
    """What is committed to a device stays there."""
    device = jax.devices()[2]
    args = tuple(jax.device_put(a, device) for a in (W, X))
    found = cg.value_and_grad(layers, (0, 1), budget="min", costs="compile").compile(*args)(*args)
    check_same(found, jax.value_and_grad(layers, (0, 1))(*args))


CHECKS = {
    "replicated parameters": "check_compiled('layers', 'Auto', False)",
    "another device": "check_another_device()",
}
MORE = {
    "in a mesh": "check_compiled('layers', 'Auto', True)",
    "sharded parameters": "check_compiled('layers', 'Auto', False, None, None, 'd')",
    "constraints": "check_compiled('constrained', 'Auto', False)",
    "a scan": "check_compiled('scanned', 'Auto', True)",
    "explicit axes": "check_compiled('layers', 'Explicit', True)",
    "explicit axes, no mesh": "check_compiled('layers', 'Explicit', False)",
    "an explicit scan": "check_compiled('scanned', 'Explicit', True)",
    "other doors": "check_other_doors()",
}


def test_programs_are_compiled_for_the_shardings_of_their_arguments():
    on_four_devices(__name__, "; ".join(CHECKS.values()))


@pytest.mark.slow
@pytest.mark.parametrize("check", MORE.values(), ids=MORE)
def test_more_programs_are_compiled_for_the_shardings_of_their_arguments(check):
    on_four_devices(__name__, check)
