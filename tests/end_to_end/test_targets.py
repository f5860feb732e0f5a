"""Plans for chips that are not here: within the bytes of jax.checkpoint around each block, as their compilers allocate.

Bytes are in boundaries: the activations that pass from one block to the next.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.costs.probes import Place, Probe
from ckptgrad.example_models import attention_blocks, gelu_stack, plain, without_arrays
from ckptgrad.graph.traits import is_product
from ckptgrad.graph.work import flops
from ckptgrad.target.hlo.counts import product_flops
from ckptgrad.target.hlo.text import read_module
from tests.support.targets import compile_only

MODELS = {
    "gelu": (gelu_stack, {"layers": 4, "width": 512, "hidden": 2048, "batch": 8192}),
    "blocks": (attention_blocks, {"blocks": 3, "width": 512, "heads": 8, "context": 512, "batch": 16}),
    "small": (gelu_stack, {"layers": 4, "width": 256, "hidden": 512, "batch": 1024}),
    "wide": (gelu_stack, {"layers": 3, "width": 1024, "hidden": 4096, "batch": 16384}),
}


def problem(model, dtype, wrap=plain):
    make, sizes = MODELS[model]
    return without_arrays(make, dtype, wrap=wrap, **sizes)


def temporaries_and_peak(target, loss, args):
    memory = target.allocated(target.compile(target.lower(jax.jit(jax.value_and_grad(loss)), *args)))
    return memory.temporary_bytes, memory.peak_bytes


@pytest.mark.parametrize(
    ("name", "model", "dtype", "most"),
    [
        pytest.param("h100", "gelu", jnp.float32, 13.01, id="h100-gelu"),
        pytest.param("h100", "blocks", jnp.float32, 33.04, id="h100-blocks", marks=pytest.mark.slow),
        pytest.param("v5e:2x2", "wide", jnp.bfloat16, None, id="v5e-gelu", marks=pytest.mark.slow),
    ],
)
def test_a_plan_fits_in_the_bytes_of_a_checkpoint_around_each_block(name, model, dtype, most):
    target = compile_only(name)
    loss, (params, x) = problem(model, dtype)
    rival, peak = temporaries_and_peak(target, *problem(model, dtype, jax.checkpoint))
    ours = cg.value_and_grad(loss, budget=peak, target=target).compile(params, x)
    assert ours.temporary_bytes <= rival
    if most is not None:
        assert ours.temporary_bytes <= most * x.size * x.dtype.itemsize


@pytest.mark.slow
@pytest.mark.parametrize("within", ["no budget", "the same bytes"])
@pytest.mark.parametrize(
    ("name", "model", "dtype"),
    [
        pytest.param("h100", "gelu", jnp.float32, id="h100-gelu"),
        pytest.param("h100", "blocks", jnp.bfloat16, id="h100-blocks"),
        pytest.param("v5e:2x2", "wide", jnp.bfloat16, id="v5e-gelu"),
    ],
)
def test_where_memory_allows_neither_bytes_nor_time_exceed_those_of_jax_grad(name, model, dtype, within):
    target = compile_only(name)
    loss, args = problem(model, dtype)
    rival = target.compile(target.lower(jax.jit(jax.value_and_grad(loss)), *args))
    peak = target.allocated(rival).peak_bytes
    budget = peak if within == "the same bytes" else None
    ours = cg.value_and_grad(loss, budget=budget, target=target).compile(*args)
    assert ours.peak_bytes <= peak
    assert target.compiled_seconds(ours.executable) <= target.compiled_seconds(rival)


def planned_work(plan):
    """Multiplications and additions of the products in all that a plan runs."""
    kept, total = {}, 0
    for action in plan.schedule:
        if isinstance(action, cg.Free):
            continue
        kind = plan.program.stages[action.stage].kind
        if isinstance(action, cg.Forward):
            kept[action.stage] = action.keep
            probe = Probe(kind, "forward" if action.output else "hidden", action.keep)
        else:
            probe = Probe(kind, "backward", kept[action.stage], Place(False, (), ()))
        total += sum(flops(op) for op in probe.program.operations if is_product(op))
    return total


def compiled_work(executable):
    """The same of all products of a compiled program."""
    return product_flops(read_module(executable.as_text()))


@pytest.mark.slow
def test_the_smallest_plan_over_chunks_takes_what_is_predicted_on_a_gpu():
    """Nothing that a loop writes is there before the loop runs."""
    target = compile_only("h100")
    loss, args = problem("gelu", jnp.float32)
    safe = cg.value_and_grad(loss, budget="min", target=target).compile(*args)
    assert safe.plan.program.chunked
    assert safe.peak_bytes <= 1.1 * safe.plan.peak_bytes


@pytest.mark.parametrize("name", ["h100", pytest.param("v5e:2x2", marks=pytest.mark.slow)])
def test_what_a_plan_repeats_is_repeated_by_the_program(name):
    """The compiler merged no repetition with the first time, and left none out."""
    target = compile_only(name)
    loss, args = problem("small", jnp.float32)
    plan = cg.plan(loss, *args, budget="min", target=target, costs="estimate", chunks=False)
    gradient = jax.jit(cg.value_and_grad(loss, policy=plan.schedule, target=target))
    rival = target.compile(target.lower(jax.jit(jax.value_and_grad(loss)), *args))
    work = compiled_work(target.compile(target.lower(gradient, *args)))
    assert work == planned_work(plan)
    assert work > 1.2 * compiled_work(rival)
