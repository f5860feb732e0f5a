"""Seventy billion parameters on pods: what is said of them without compiling for one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.bench.cases import scale
from ckptgrad.bench.registry import Bench
from ckptgrad.errors import MissingExtraError
from ckptgrad.example_models import argument_axes, llama, without_arrays
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.traits import is_product
from ckptgrad.graph.work import flops


def product_work(graph: cg.Graph) -> int:
    """The arithmetic of a graph's products, those of a scan in every step."""
    total = 0
    for op in graph.operations:
        total += flops(op) if is_product(op) else 0
        if op.name == "scan":
            total += op.params["length"] * product_work(from_jaxpr(op.params["jaxpr"]))
    return total


def test_the_arithmetic_that_shares_refer_to_is_that_of_jax_grad():
    sizes = scale.QUICK_SIZES | {"batch": 2}
    loss, args = without_arrays(llama, jnp.bfloat16, **sizes)
    assert product_work(cg.trace(jax.grad(loss), *args)) == scale.products_once(sizes)


def test_the_model_is_that_of_seventy_billion_parameters():
    _, (params, _) = without_arrays(llama, jnp.bfloat16, **scale.SIZES)
    assert sum(x.size for x in jax.tree.leaves(params)) == 70_553_706_496


@pytest.mark.parametrize(
    ("shape", "gate", "down", "tokens"),
    [
        ((64,), P(None, "data", None), P(None, None, "data"), P("data", None)),
        ((8, 8), P(None, "data", "model"), P(None, "model", "data"), P("data", None)),
    ],
)
def test_arguments_are_cut_along_the_axes_that_the_mesh_has(shape, gate, down, tokens):
    layout = scale.Layout(AbstractMesh(shape, ("data", "model")[: len(shape)]))
    layers, words = argument_axes()[0]["layers"], argument_axes()[1]
    found = [layout.sharding(axes).spec for axes in (layers["gate"], layers["down"], words)]
    assert found == [gate, down, tokens]


def test_without_the_compiler_the_case_says_what_to_install(monkeypatch):
    def missing(name):
        raise MissingExtraError(f"compiling for {name}", "XLA's GPU compiler", "gpu-target")

    monkeypatch.setattr(cg, "target", missing)
    (left_out,) = scale.on_pod(scale.PODS["h100-64"], Bench(quick=True))
    assert "pip install 'ckptgrad[gpu-target]'" in left_out.skipped
