"""All that this package knows of JAX's versions and of its private names, each entry with its reason.

Everything else is written against these names; a lint rule and a test keep version checks, probing for JAX's names, names
of its private classes and private imports out of all other modules.
"""

from ckptgrad.compat.custom_rules import (
    CUSTOM_JVP,
    CUSTOM_VJP,
    CustomJvpCall,
    CustomVjpCall,
    JvpRule,
    anchor_of,
    custom_jvp_call,
    custom_vjp_call,
    errors_taken,
)
from ckptgrad.compat.effects import holds_references, is_ordered, names_axis
from ckptgrad.compat.hijax_calls import HiCall, hi_call, hi_programs
from ckptgrad.compat.plugins import register_cuda_compiler
from ckptgrad.compat.primitives import (
    CALLS,
    HI_CALL,
    REDUCED_VARY_CAST,
    VARY_UNREDUCED_CAST,
    ScanCounts,
    as_plain,
    called_program,
    is_checkpoint,
    is_closed,
    scan_counts,
    spmd_axis_names,
)
from ckptgrad.compat.references import has_no_derivative, indices_of, reshape_of
from ckptgrad.compat.rule_identity import is_jaxs, rule_identity
from ckptgrad.compat.tracers import trace_of
from ckptgrad.compat.versions import ACOSH_BY_FACTORS, GPU_KERNEL_OPTIONS, OPEN_CONVOLUTIONS_ARE_SMALL, VERSIONS, installed

__all__ = [
    "ACOSH_BY_FACTORS",
    "CALLS",
    "CUSTOM_JVP",
    "CUSTOM_VJP",
    "GPU_KERNEL_OPTIONS",
    "HI_CALL",
    "OPEN_CONVOLUTIONS_ARE_SMALL",
    "REDUCED_VARY_CAST",
    "VARY_UNREDUCED_CAST",
    "VERSIONS",
    "installed",
    "CustomJvpCall",
    "CustomVjpCall",
    "HiCall",
    "JvpRule",
    "ScanCounts",
    "anchor_of",
    "as_plain",
    "called_program",
    "custom_jvp_call",
    "custom_vjp_call",
    "errors_taken",
    "has_no_derivative",
    "hi_call",
    "hi_programs",
    "holds_references",
    "indices_of",
    "is_checkpoint",
    "is_closed",
    "is_ordered",
    "names_axis",
    "register_cuda_compiler",
    "reshape_of",
    "is_jaxs",
    "rule_identity",
    "scan_counts",
    "spmd_axis_names",
    "trace_of",
]
