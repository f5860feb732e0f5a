"""Index tables of tuples: how many a program has, and that they are what the TPU compiler takes beside its arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ckptgrad.target.hlo.tables import count_tables
from ckptgrad.target.hlo.text import read_module
from tests.support.targets import compile_only

ARRAY = "bf16[64,8]{1,0:T(8,128)(2,1)S(1)}"
PAIR = f"({ARRAY}, {ARRAY})"
BODY = f"""%body (a: s32[]) -> s32[] {{
  %start = ({ARRAY}, {ARRAY}, u32[]{{:S(2)}}) copy-start(%a)
  ROOT %t = {PAIR} tuple(%a, %a)
}}
"""


@pytest.mark.parametrize(
    ("line", "tables"),
    [
        (f"{ARRAY} copy(%a)", 0),
        (f"({ARRAY}, {ARRAY}, /*index=2*/u32[]{{:S(2)}}) copy-start(%a)", 1),
        (f"(({ARRAY}), {ARRAY}, s32[]{{:T(128)}}) slice-start(%a)", 2),
        (f"({ARRAY}, f32[8]{{0}}) fusion(%a), kind=kLoop, calls=%body", 1),
        (f"{PAIR} opt-barrier(%a)", 0),
        (f"{PAIR} get-tuple-element(%a), index=0", 0),
        (f"{PAIR} parameter(0)", 0),
        (f"{PAIR} while(%a), condition=%c, body=%body", 1),
        (f"{ARRAY} call(%a), to_apply=%body", 1),
    ],
)
def test_tables_of_an_instruction(line, tables):
    """Of tuples that an instruction makes, those inside of them as well, and of loops' bodies; not of the result."""
    text = f"{BODY}\nENTRY %main (a: f32[]) -> f32[] {{\n  %i = {line}\n  ROOT %r = {PAIR} tuple(%i, %i)\n}}\n"
    assert count_tables(read_module(text)) == tables


def gathered(ws, x, large):
    """Two products with gathered weights, before an array that does not fit near the cores."""
    for w in ws:
        x = jnp.maximum(x @ jax.lax.with_sharding_constraint(w, PartitionSpec()), 0)
    large = jax.lax.optimization_barrier(large * 2)
    return x, large[:1, :1]


def summed(ws, x, large):
    """Products over the cut axis, for which slices are fetched and sums taken."""
    large = jax.lax.optimization_barrier(large * 2)
    return [jax.lax.with_sharding_constraint(x.T @ x * k, PartitionSpec()) for k in (1, 2)], large[:1, :1]


@pytest.mark.parametrize("function", [gathered, summed])
def test_tables_are_what_a_tpu_takes_beside_its_arrays(function):
    """To the byte: 256 MiB are an array, the other arrays live near the cores, the rest are tables."""
    target = compile_only("v5e:2x2")
    mesh = target.mesh((4,), ("data",))

    def cut(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec("data")))

    with jax.set_mesh(mesh):
        lowered = target.lower(jax.jit(function), [cut(2048, 2048)] * 2, cut(4096, 2048), cut(4 << 18, 512))
    compiled = target.compile(lowered)
    tables = count_tables(read_module(compiled.as_text()))
    assert tables > 1
    assert target.allocated(compiled).temporary_bytes == (1 << 28) + tables * target.platform.table_bytes
