"""`--mesh`: the mesh that the user's functions are given, and plans for one device of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import ckptgrad as cg
from ckptgrad.cli.meshes import given_mesh, lies_on, needs_mesh, read_mesh
from ckptgrad.errors import OptionError
from tests.support.targets import compile_only

ROOT = Path(__file__).parents[2]

SPREAD = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import climodel

def loss(weights, x, mesh):
    assert mesh.axis_names == ("data", "model")
    return climodel.loss(weights, x)

def structs(mesh):
    def struct(shape, *spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))
    return [struct((128, 128), None, "model")] * 6, struct((4096, 128), "data")

def arrays(mesh):
    return jax.tree.map(lambda s: jax.device_put(jnp.full(s.shape, 0.01), s.sharding), structs(mesh))

whole = [jnp.eye(128)] * 6, jnp.ones((4096, 128))
"""
MESH = ["--mesh", "data=4,model=2"]


@pytest.fixture
def spread(run, tmp_path, monkeypatch):
    """The runner, with a module of a model that is given a mesh."""
    (tmp_path / "spread.py").write_text(SPREAD)
    monkeypatch.delitem(sys.modules, "spread", raising=False)
    return run


def mesh(*sizes: int) -> AbstractMesh:
    names = ("data", "model")[: len(sizes)]
    return AbstractMesh(sizes, names, axis_types=(AxisType.Auto,) * len(sizes))


def test_a_plan_of_more_devices_than_there_are_has_the_bytes_of_one(spread):
    words = ["plan", "spread:loss", "spread:structs", "--json"]
    spread_out = json.loads(spread(*words, *MESH).stdout)
    on_one = json.loads(spread(*words[:1], "climodel:loss", "spread:whole", "--json").stdout)
    assert spread_out["peak_bytes"] < 0.5 * on_one["peak_bytes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "climodel:loss", "spread:structs"], "'spread:structs' takes a mesh; say which, as in --mesh data=4"),
        (["plan", "spread:loss", "spread:whole"], "'spread:loss' takes a mesh"),
        (["plan", "climodel:loss", "spread:whole", *MESH], "nothing of 'spread:whole' lies on the mesh"),
        (["timeline", "climodel:loss", "spread:structs", *MESH], "xla_force_host_platform_device_count=8".upper()),
    ],
)
def test_what_is_missing_is_said(spread, words, said):
    assert said.lower() in spread(*words, code=2).stderr.lower()


@pytest.mark.parametrize("text", ["", "data", "data=0", "data=2,", "data=2,data=2", "4x2"])
def test_a_mesh_that_cannot_be_read(text):
    with pytest.raises(OptionError, match="write each axis once"):
        read_mesh(text, None)


def test_meshes_of_what_is_attached():
    assert read_mesh(None, None) is None
    one = read_mesh("data=1", "cpu")
    assert one == cg.target("cpu").mesh((1,), ("data",))
    assert read_mesh("data=4096, model=2", None, compiles=False) == mesh(4096, 2)
    with pytest.raises(OptionError, match="needs 8192 devices"):
        read_mesh("data=4096,model=2", None)


def test_only_functions_that_take_a_mesh_are_given_it():
    assert given_mesh(lambda x, mesh=None: mesh, mesh(2))(0) == mesh(2)
    assert given_mesh(lambda x, mesh=None: mesh, None)(0) is None
    assert given_mesh(abs, mesh(2)) is abs
    assert needs_mesh(lambda mesh: 0)
    assert not needs_mesh(lambda mesh=None: 0)
    assert not needs_mesh(lambda x: 0)


def test_arguments_lie_on_a_mesh_or_elsewhere():
    def struct(over):
        return jax.ShapeDtypeStruct((8,), "float32", sharding=NamedSharding(over, PartitionSpec("data")))

    assert lies_on(([struct(mesh(4, 2))], 1.0), mesh(4, 2))
    assert not lies_on((struct(mesh(1)), 1.0), mesh(4, 2))
    assert not lies_on((struct(mesh(4, 4)),), mesh(4, 2))


@pytest.mark.slow
def test_devices_that_are_not_here(spread):
    compile_only("h100:8")
    for command in (["plan"], ["timeline"], ["frontier"], ["validate", "--meters", "none"]):
        found = json.loads(spread(*command, "spread:loss", "spread:structs", *MESH, "--target", "h100:8", "--json").stdout)
        assert found
    assert (
        "h100:8 or v5e"
        in spread("plan", "spread:loss", "spread:structs", "--mesh", "data=16,model=2", "--target", "h100:8", code=2).stderr
    )


@pytest.mark.slow
@pytest.mark.usefixtures("spread")
def test_forced_devices_of_the_cpu():
    """In a process of its own: what runs there has arrays."""
    flags = "--xla_force_host_platform_device_count=8"
    command = [sys.executable, "-m", "ckptgrad.cli", "validate", "spread:loss", "spread:arrays", *MESH, "--budget", "min"]
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--meters", "none"], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
