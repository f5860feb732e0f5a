"""ckptgrad: gradients of JAX functions within a memory budget, planned, certified, cross-checked."""

from typing import Any

from ckptgrad import rules
from ckptgrad.api import grad, plan, value_and_grad, vjp
from ckptgrad.chain.marks import Chain, stage
from ckptgrad.checkpointed import checkpoint
from ckptgrad.errors import (
    ArgnumsError,
    BudgetError,
    BudgetFormatError,
    CkptgradError,
    EffectError,
    GradientTypeError,
    MismatchError,
    MissingRuleError,
    NoDerivativeError,
    OptionError,
    ScheduleError,
    StageError,
    StaticArgumentError,
    ValidationError,
)
from ckptgrad.frontiers import Frontier, frontier
from ckptgrad.graph.graph import Graph, Operation, Variable, get_consumers, get_inputs, get_operation
from ckptgrad.graph.trace import trace
from ckptgrad.jacobians import hessian, jacfwd, jacobian, jacrev
from ckptgrad.loops import fori_loop, scan, while_loop
from ckptgrad.planning.imported import from_checkpoint_schedules, load_plan
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule
from ckptgrad.profiles import timeline
from ckptgrad.rules.borrowed import use_jax_rule
from ckptgrad.rules.kinds import bprop as bprop_rule
from ckptgrad.rules.third_party import use_implementation
from ckptgrad.runtime.calibrate import calibrate
from ckptgrad.tangents import hvp, jvp, linearize
from ckptgrad.timelines.timeline import Timeline
from ckptgrad.validation import Validation, validate

__version__ = "0.1.0"

__all__ = [
    "ArgnumsError", "Backward", "bprop_rule", "BudgetError", "BudgetFormatError", "calibrate", "Chain", "checkpoint",
    "CkptgradError", "EffectError", "fori_loop", "Forward", "Free", "from_checkpoint_schedules", "Frontier", "frontier",
    "get_consumers", "get_inputs", "get_operation", "grad", "GradientTypeError", "Graph", "hessian", "hvp", "jacfwd",
    "jacobian", "jacrev", "jvp", "linearize", "load_plan", "MismatchError", "MissingRuleError", "NoDerivativeError",
    "Operation", "OptionError", "plan", "policy", "rules", "scan", "Schedule", "ScheduleError", "stage", "StageError",
    "StaticArgumentError", "Timeline", "timeline", "trace", "use_implementation", "use_jax_rule", "validate",
    "Validation", "ValidationError", "value_and_grad", "Variable", "vjp", "while_loop",
]  # fmt: skip


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext ckptgrad`: the magics `%ckptgrad` and `%%ckptgrad` (`ckptgrad.notebook`)."""
    from ckptgrad.notebook.magics import CkptgradMagics

    shell.register_magics(CkptgradMagics)
