"""The errors that ckptgrad raises: each names the thing, its value and the remedy; a file for each of those who raise."""

from ckptgrad.errors.base import CkptgradError
from ckptgrad.errors.budgets import BudgetError, StepMemoryError
from ckptgrad.errors.calls import (
    ArgnumsError,
    BudgetFormatError,
    GradientTypeError,
    KeywordError,
    MismatchError,
    NestingError,
    OptionError,
    ReferenceTypeError,
    StageError,
    StateError,
    StaticArgumentError,
)
from ckptgrad.errors.planning import EffectError, ScheduleError
from ckptgrad.errors.rules import (
    DuplicateRuleError,
    ForeignCodeError,
    ForwardModeError,
    InexactDerivativeError,
    MissingRuleError,
    NoDerivativeError,
)
from ckptgrad.errors.running import LedgerError, MissingExtraError, NotAttachedError, ProcessesError, StagedError, TierError
from ckptgrad.errors.validation import ValidationError
from ckptgrad.errors.warned import CheckpointWarning, ShardingWarning

__all__ = [
    "ArgnumsError",
    "BudgetError",
    "BudgetFormatError",
    "CheckpointWarning",
    "CkptgradError",
    "DuplicateRuleError",
    "EffectError",
    "ForeignCodeError",
    "ForwardModeError",
    "GradientTypeError",
    "InexactDerivativeError",
    "KeywordError",
    "LedgerError",
    "MismatchError",
    "MissingExtraError",
    "MissingRuleError",
    "NestingError",
    "NoDerivativeError",
    "NotAttachedError",
    "OptionError",
    "ProcessesError",
    "ReferenceTypeError",
    "ScheduleError",
    "ShardingWarning",
    "StageError",
    "StagedError",
    "StateError",
    "StaticArgumentError",
    "StepMemoryError",
    "TierError",
    "ValidationError",
]

# Users know them by this place, wherever they are written.
for _name in __all__:
    globals()[_name].__module__ = __name__
