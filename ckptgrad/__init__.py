"""ckptgrad: gradients of JAX functions within a memory budget, planned, certified, cross-checked."""

from typing import Any

from ckptgrad import rules
from ckptgrad.chain.marks import Chain, stage
from ckptgrad.doors.apply_gradients import apply_gradients
from ckptgrad.doors.certify import certify
from ckptgrad.doors.checkpoint import checkpoint
from ckptgrad.doors.diff import diff
from ckptgrad.doors.fit import fit
from ckptgrad.doors.forward import hvp, jvp, linearize
from ckptgrad.doors.frontier import frontier
from ckptgrad.doors.gradient import grad, value_and_grad
from ckptgrad.doors.jacobian import hessian, jacfwd, jacobian, jacrev
from ckptgrad.doors.largest_batch import largest_batch
from ckptgrad.doors.loops import fori_loop, scan, while_loop
from ckptgrad.doors.plan import plan
from ckptgrad.doors.timeline import timeline
from ckptgrad.doors.vjp import vjp
from ckptgrad.errors import (
    ArgnumsError,
    BudgetError,
    BudgetFormatError,
    CheckpointWarning,
    CkptgradError,
    EffectError,
    GradientTypeError,
    MismatchError,
    MissingExtraError,
    MissingRuleError,
    NoDerivativeError,
    NotAttachedError,
    OptionError,
    ProcessesError,
    ScheduleError,
    ShardingWarning,
    StageError,
    StateError,
    StaticArgumentError,
    StepMemoryError,
    ValidationError,
)
from ckptgrad.execution.certified import Certified
from ckptgrad.execution.compiled_step import CompiledStep
from ckptgrad.graph.graph import Graph, Operation, Variable, get_consumers, get_inputs, get_operation
from ckptgrad.graph.trace import trace
from ckptgrad.libraries import eqx, nnx
from ckptgrad.planning.imported_schedules import from_checkpoint_schedules, load_plan
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule
from ckptgrad.report.renderer import RENDERER as _RENDERER
from ckptgrad.results.frontier import Frontier
from ckptgrad.results.largest_batch import LargestBatch
from ckptgrad.results.plan import Plan
from ckptgrad.results.shown import Shown as _Shown
from ckptgrad.results.step_certificate import StepCertificate
from ckptgrad.results.timeline import Timeline
from ckptgrad.rules.borrowed import use_jax_rule
from ckptgrad.rules.decorators import bprop as bprop_rule
from ckptgrad.rules.third_party import use_implementation
from ckptgrad.target.calibrate import calibrate
from ckptgrad.target.named import target
from ckptgrad.target.target import Target
from ckptgrad.validation import Validation, validate

__version__ = "0.1.0"

__all__ = [
    "apply_gradients", "ArgnumsError", "Backward", "bprop_rule", "BudgetError", "BudgetFormatError", "calibrate",
    "Certified", "certify", "Chain", "checkpoint", "CheckpointWarning", "CkptgradError", "CompiledStep", "diff",
    "EffectError", "eqx", "fit", "fori_loop", "Forward", "Free", "from_checkpoint_schedules", "Frontier", "frontier",
    "get_consumers", "get_inputs", "get_operation", "grad", "GradientTypeError", "Graph", "hessian", "hvp", "jacfwd",
    "jacobian", "jacrev", "jvp", "largest_batch", "LargestBatch", "linearize", "load_plan", "MismatchError",
    "MissingExtraError", "MissingRuleError", "nnx", "NoDerivativeError", "NotAttachedError", "Operation", "OptionError",
    "Plan", "plan", "policy", "ProcessesError", "rules", "scan", "Schedule", "ScheduleError", "ShardingWarning", "stage",
    "StageError", "StateError", "StaticArgumentError", "StepCertificate", "StepMemoryError", "Target", "target", "Timeline",
    "timeline", "trace", "use_implementation", "use_jax_rule", "validate", "Validation", "ValidationError",
    "value_and_grad", "Variable", "vjp", "while_loop",
]  # fmt: skip

_Shown.use(_RENDERER)


def __dir__() -> list[str]:
    """The public names, without the rooms that happen to be loaded."""
    return [*__all__]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext ckptgrad`: the magics `%ckptgrad` and `%%ckptgrad` (`ckptgrad.notebook`)."""
    from ckptgrad.notebook.magics import CkptgradMagics

    shell.register_magics(CkptgradMagics)
