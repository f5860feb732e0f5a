"""Transformers over several devices: what is said of them without compiling for any."""

from __future__ import annotations

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.bench.cases import devices
from ckptgrad.bench.registry import Bench
from ckptgrad.errors import MissingExtraError


class Imagined:
    """Eight devices of a target that are none."""

    devices = tuple(range(8))

    def mesh(self, shape, names):
        return AbstractMesh(shape, names, axis_types=(AxisType.Auto,) * len(names))


@pytest.mark.parametrize(
    ("way", "sizes", "qkv", "out"),
    [
        ("FSDP", {"data": 8}, P("data"), P("data")),
        ("FSDP, gradients cut", {"data": 8}, P("data"), P("data")),
        ("data x tensor", {"data": 4, "model": 2}, P(None, "model"), P("model")),
    ],
)
def test_how_arguments_lie(way, sizes, qkv, out):
    _, (params, x) = devices.Setting(Bench(quick=True), Imagined(), 12, way).problem()
    assert len(params) == devices.QUICK_SIZES["blocks"]
    assert dict(x.sharding.mesh.shape) == sizes
    assert x.sharding.spec == P("data")
    block = params[0]
    assert [block[name].sharding.spec for name in ("g1", "qkv", "out", "up", "down")] == [P(), qkv, out, qkv, out]
    assert x.shape[0] == devices.SEQUENCES * 8
    assert all(a.sharding.mesh == x.sharding.mesh for a in jax.tree.leaves(params))


@pytest.mark.parametrize(("way", "parts"), [("FSDP", 1), ("FSDP, gradients cut", 8), ("data x tensor", 2)])
def test_how_gradients_lie(way, parts):
    loss, args = devices.Setting(Bench(quick=True), Imagined(), 12, way).problem()
    program = cg.plan(loss, *args, costs="estimate").program
    weights = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(args[0]) if a.ndim > 1)
    gains = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(args[0]) if a.ndim < 2)
    assert program.gradient_bytes == weights // parts + gains


def test_without_the_compiler_the_case_says_what_to_install(monkeypatch):
    def missing(name):
        raise MissingExtraError(f"compiling for {name}", "XLA's GPU compiler", "gpu-target")

    monkeypatch.setattr(cg, "target", missing)
    (left_out,) = devices.on_pod(devices.PODS["h100"], "FSDP", Bench(quick=True))
    assert "pip install 'ckptgrad[gpu-target]'" in left_out.skipped
