"""Primitives whose derivative is refused, and those that tracing inlines or takes apart."""

from __future__ import annotations

from jax.extend.core import primitives as p

from ckptgrad.autodiff.rule import Rule, register
from ckptgrad.compat import CALLS
from ckptgrad.rules.decorators import refused

NO_RULE_IN_JAX = "JAX has no rule for it either"

for primitive in (
    p.schur_p,
    p.hessenberg_p,
    p.tridiagonal_p,
    p.householder_product_p,
    p.select_and_scatter_p,
    p.pmax_p,
    p.pmin_p,
    # Published by no module: the parts of other operations.
    "geqrf",
    "geqp3",
    "ormqr",
    "cholesky_update",
    "symmetric_product",
):
    refused(primitive, NO_RULE_IN_JAX, cost="heavy")

refused(p.igamma_grad_a_p, NO_RULE_IN_JAX, cost="transcendental")
refused("scaled_dot", NO_RULE_IN_JAX)

# In JAX's words.
for name, words in (
    ("pure_callback", "Pure callbacks do not support JVP"),
    ("io_callback", "IO callbacks do not support JVP"),
    ("ffi_call", "The FFI call to `foreign code` cannot be differentiated"),
):
    register(Rule(name, "refused", reason=words, foreign=True))

refused(p.ragged_all_to_all_p, "its transpose runs on accelerators only, and is not implemented yet", cost="heavy")
for primitive in (p.custom_lin_p.name, "call_hi_primitive_linearized"):
    refused(primitive, "it stands in JAX's own linearisation only and never in a traced function")

refused("run_state", "its program works on references that it is given; write it with jax.new_ref inside")

for name in ("new_ref", "empty_ref", p.get_p.name, p.swap_p.name, "addupdate", "freeze", "free_ref"):
    register(Rule(name, "inlined", reason="references are taken apart: their values are carried instead"))

for name in CALLS:
    register(Rule(name, "inlined", reason="its operations stand in the graph"))
