"""A program is made for its target: for two of them in one process, whatever is attached to it."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import ckptgrad
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.errors import OptionError
from ckptgrad.request import Request
from ckptgrad.target.attached import attached_cpu
from ckptgrad.target.host_memory import free_host_memory
from ckptgrad.target.links import Links
from ckptgrad.target.platform import Form, Isolation, platforms
from ckptgrad.target.target import MemorySpace, described

IMAGES = jax.ShapeDtypeStruct((2, 4, 8, 8), jnp.float32)
KERNELS = [jax.ShapeDtypeStruct((4, 4, 3, 3), jnp.float32)] * 2
WEIGHTS = jax.ShapeDtypeStruct((256, 16), jnp.float32)
# The shape of the gradient of WEIGHTS as it is computed, and as it is asked for.
SWAPPED, AS_WRITTEN = "tensor<16x256xf32>", "tensor<256x16xf32>"
LAST, FIRST = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]", "[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]"
# A row per kind of target: how stages are kept whole, and in which forms operations run.
TARGETS = {
    "cpu": (Isolation.CALLS, True),
    "cuda": (Isolation.BARRIERS, False),
    "rocm": (Isolation.BARRIERS, False),
    "tpu": (Isolation.BARRIERS, False),
}


def loss(kernels, weights, x):
    for kernel in kernels:
        x = jnp.tanh(jax.lax.conv(x, kernel, (1, 1), "SAME")) + x
    return (jnp.tanh(x.reshape(2, -1) @ weights) ** 2).sum()


def text_for(name):
    """The gradient as it is lowered for a target, without compiling it."""
    target = described(name)
    door = GradientFunction(loss, Request(argnums=(0, 1), policy="recompute_all", target=target), with_value=True)
    return target.lower(jax.jit(door), KERNELS, WEIGHTS, IMAGES).as_text()


def features(text):
    """What tells the programs of platforms apart: calls that are not inlined, forms of convolutions and products."""
    products = re.findall(r"dot_general .*contracting_dims = \[0\] x \[0\].* -> (tensor<\S+>)", text)
    return {
        "calls": text.count('inlineable = "false"'),
        "convolutions": Counter(re.findall(r"dim_numbers = (\S.*?),\s*window", text)),
        "weight gradients": Counter(products),
        "barriers": text.count("optimization_barrier"),
    }


@pytest.fixture(scope="module")
def texts():
    """One after another, each twice: what one target leaves behind is not used for another one."""
    found = {name: text_for(name) for name in TARGETS}
    assert {name: text_for(name) for name in TARGETS} == found
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_a_program_has_the_isolation_and_the_forms_of_its_target(texts, name):
    isolation, in_forms = TARGETS[name]
    found = features(texts[name])
    assert bool(found["calls"]) == (isolation is Isolation.CALLS)
    assert found["barriers"] > 0
    assert (LAST in found["convolutions"], FIRST in found["convolutions"]) == (in_forms, not in_forms)
    assert set(found["weight gradients"]) == {SWAPPED if in_forms else AS_WRITTEN}


def test_programs_are_the_same_from_threads(texts):
    names = [*TARGETS] * 2
    with ThreadPoolExecutor(4) as pool:
        for name, text in zip(names, pool.map(text_for, names), strict=True):
            assert features(text) == features(texts[name])


def program_for(target):
    args = KERNELS, WEIGHTS, IMAGES
    return GradientFunction(loss, Request(argnums=(0, 1), target=target), with_value=True).trace(*args).program


def test_kinds_belong_to_their_target():
    cpu, gpu, again = (program_for(described(name)) for name in ("cpu", "cuda", "cpu"))
    assert [stage.kind for stage in cpu.stages] == [stage.kind for stage in again.stages]
    assert {*cpu.kinds}.isdisjoint(gpu.kinds)
    assert {kind.target for kind in gpu.kinds} == {gpu.target} == {described("cuda")}


def test_estimates_are_those_of_the_target():
    """A GPU is faster once it has started, and its products work on no copies of their operands."""
    started = replace(described("cuda"), rates=replace(described("cuda").rates, launch=0.0))
    cpu, gpu = (estimated_costs(program_for(target)) for target in (described("cpu"), started))
    for ours, theirs in zip(cpu.stages, gpu.stages, strict=True):
        assert ours.boundary_bytes == theirs.boundary_bytes
        assert ours.forward_time > theirs.forward_time
    assert sum(s.forward_transient for s in cpu.stages) > sum(s.forward_transient for s in gpu.stages)


def test_bytes_that_are_free_where_nothing_is_attached():
    assert described("cuda", "H100", [MemorySpace("device", 2**36)]).free_bytes(2**20) == 0.75 * 2**36 - 2**20
    with pytest.raises(OptionError, match="size of the memory of tpu"):
        described("tpu").free_bytes()


def test_what_is_not_attached_is_not_compiled():
    door = GradientFunction(loss, Request(target=described("cuda")), with_value=True)
    with pytest.raises(OptionError, match="no such device is attached"):
        door.compile(KERNELS, WEIGHTS, IMAGES)


def test_what_jax_lowers_for_follows_from_the_name():
    assert described("neuron").lowered_for == "neuron"
    assert described("gpu").lowered_for == "cuda"


def test_every_platform_has_a_row_here():
    assert {name for p in platforms().values() for name in p.lowered_for} == {*TARGETS}
    assert {form for p in platforms().values() for form in p.forms} == {*Form}


def test_bytes_of_values_are_counted_in_one_place():
    """On a variable, by how it lies.

    But of arrays that are there: what closures hold, what a tier keeps, what rates are measured on; and what only weighs one
    name or one place against another.
    """
    package = Path(ckptgrad.__file__).parent
    rooms = ("chain", "costs", "execution", "loops", "results", "stage", "target")
    counts = re.compile("nbytes|aval_bytes|device_bytes")
    files = [f for room in rooms for f in (package / room).rglob("*.py") if counts.search(f.read_text())]
    counting = {f.relative_to(package).as_posix() for f in files}
    arrays = {"chain/recent.py", "execution/tiers/host.py", "execution/tiers/mover.py", "target/calibrate.py"}
    assert counting == arrays | {"chain/blocks.py", "chain/layers.py", "target/target.py"}


def test_seconds_of_several_devices_depend_on_the_links_between_them():
    one = replace(described("cuda"), devices=tuple(jax.devices()[:1]))
    several = replace(one, devices=tuple(jax.devices()[:1]) * 2)
    faster = replace(several, links=Links(1.0))
    assert one.priced_by == replace(one, links=Links(1.0)).priced_by
    assert several.priced_by != faster.priced_by


def test_what_is_free_is_said_in_words():
    assert (
        described("cuda", "H100", [MemorySpace("device", 2**36)]).free_words()
        == "75% of the memory of H100, less the arguments"
    )
    assert attached_cpu().free_words() == free_host_memory().words


def test_programs_use_the_hosts_memory_only_where_it_is_given():
    target = attached_cpu()
    assert target.host_bytes == 0
    given = target.with_host(100)
    assert (given.host_bytes, given.with_host(7).host_bytes, given.memory_bytes) == (100, 7, target.memory_bytes)
    assert given != target
