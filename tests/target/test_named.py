"""Targets by the names that users give them."""

from __future__ import annotations

from importlib.util import find_spec

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import ckptgrad as cg
from ckptgrad.errors import MissingExtraError, NotAttachedError, OptionError
from tests.support.targets import compile_only

STRUCTS = [jax.ShapeDtypeStruct((128, 128), np.float32)] * 3, jax.ShapeDtypeStruct((4096, 128), np.float32)


def loss(ws, x):
    for w in ws:
        x = x + jax.numpy.tanh(x @ w)
    return (x**2).mean()


@pytest.mark.parametrize(
    ("name", "meant"), [("H100", "h100"), ("h10O", "h100"), ("v5e", "v5e:2x2"), ("CPU", "cpu"), ("tpu7x", "tpu7x:2x2x1")]
)
def test_a_near_miss_is_asked_about(name, meant):
    with pytest.raises(OptionError, match=f"target='{name}' is not known: did you mean '{meant}'"):
        cg.target(name)


def test_what_is_attached_is_a_target():
    device = jax.devices()[0]
    targets = [cg.target(), cg.target("cpu"), cg.target(device), cg.target(Mesh(np.array([device]), ("x",)))]
    assert all(t.devices == (device,) and t.attached for t in targets)
    assert cg.target(targets[0]) is targets[0]
    assert targets[0].memory_bytes > 2**28


@pytest.mark.parametrize("name", ["h99", "v5e", "h100:0", "h100:", "", "no/such/file.txt", 3, b"h100", ("h100",)])
def test_an_unknown_target_is_refused_at_once(name):
    with pytest.raises(OptionError, match="target="):
        cg.grad(loss, target=name)


def test_a_file_that_describes_no_gpu_is_refused(tmp_path):
    (tmp_path / "chip.txt").write_text("gpu_device_info { core_count: 3 }")
    with pytest.raises(OptionError, match="lacks the field fpus_per_core"):
        cg.target(tmp_path / "chip.txt")


@pytest.mark.skipif(bool(find_spec("jax_plugins") or find_spec("libtpu")), reason="a compiler is installed")
@pytest.mark.parametrize(("name", "extra"), [("h100", "gpu-target"), ("v5e:2x2", "tpu-target")])
def test_a_missing_compiler_is_named_with_what_installs_it(name, extra):
    with pytest.raises(MissingExtraError, match=rf"pip install 'ckptgrad\[{extra}\]'"):
        cg.target(name)


def test_a_plan_for_another_chip_is_certified_and_not_run():
    target = compile_only("h100")
    certified = cg.value_and_grad(loss, budget="0.7x", target="h100").compile(*STRUCTS)
    assert certified.target is target
    assert certified.peak_bytes <= certified.budget
    args = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), STRUCTS)
    calls = [certified, cg.grad(loss, target="h100"), lambda *a: cg.vjp(loss, *a, target="h100")]
    for call in calls:
        with pytest.raises(NotAttachedError, match="H100"):
            call(*args)


def test_gpus_are_counted():
    eight = compile_only("h100:8")
    assert len(eight.devices) == 8
    assert dict(eight.mesh((4, 2), ("data", "model")).shape) == {"data": 4, "model": 2}
    with pytest.raises(OptionError, match="needs 16 devices"):
        eight.mesh((16,), ("data",))
    assert len(cg.target("a100").devices) == 1
    assert eight.memory_bytes == 84942979072
    assert cg.target(eight.devices[3]).memory_bytes == eight.memory_bytes
    assert cg.target(eight.mesh((8,), ("data",))) == eight


def test_auto_is_the_memory_less_arguments_and_a_reserve():
    target = compile_only("h100")
    certified = cg.value_and_grad(loss, budget="auto", target="h100").compile(*STRUCTS)
    arguments = 4 * (3 * 128 * 128 + 4096 * 128)
    assert certified.budget == int(0.75 * target.memory_bytes) - arguments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "gibibytes"),
    [("v5e:2x2", 4, 16), ("v6e:2x2", 4, 32), ("v4:2x2x1", 8, 16), ("v5p:2x2x1", 4, 95), ("tpu7x:2x2x1", 8, 96)],
)
def test_tpu_topologies(name, count, gibibytes):
    target = compile_only(name)
    assert len(target.devices) == count
    assert target.memory_bytes == gibibytes << 30


@pytest.mark.slow
def test_a_topology_that_does_not_exist_is_refused():
    compile_only("v5e:2x2")
    with pytest.raises(OptionError, match="no TPU topology"):
        cg.target("v5e:3x3")


@pytest.mark.slow
def test_a_plan_for_a_tpu_is_certified():
    compile_only("v5e:2x2")
    certified = cg.value_and_grad(loss, budget="0.7x", target="v5e:2x2").compile(*STRUCTS)
    assert certified.peak_bytes <= certified.budget
