"""What `validate` returns: one row for each reference and each policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckptgrad.meters.meter import Reading
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.finding import Finding, messages
from ckptgrad.results.shown import Shown
from ckptgrad.stage.encodings.encoding import largest_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Findings that the printed table shows.
MOST_LINES = 12


@dataclass(frozen=True)
class Difference:
    """How one pytree differs from its reference.

    Attributes:
        relative: the largest relative difference of a leaf.
        excess: the largest ratio of a leaf's relative difference to what its dtype allows; above 1 is too much.
        leaf: the path of the leaf with that excess.
        dtype: its dtype.
        bitwise: whether all leaves are equal bit for bit.
    """

    relative: float = 0.0
    excess: float = 0.0
    leaf: str = ""
    dtype: str = ""
    bitwise: bool = True


@dataclass(frozen=True)
class Row:
    """One way to compute the gradient. All bytes are beyond the arguments.

    Attributes:
        name: "jax.grad", "jax.checkpoint" or the name of a policy.
        predicted_peak_bytes: the planner's prediction; None for the references.
        readings: the peak by each meter, by the meter's name; "xla" is among them.
        certified_temporary_bytes: the part of the peak by "xla" that is neither value nor gradient.
        seconds: the median time of a call.
        time_ratio: the median ratio of its time to that of `jax.grad` in the same round.
        gradient, value: how they differ from those of `jax.grad`.
        reason: why nothing was measured (the budget is below what the policy can reach), or None.
        smallest_peak_bytes: the smallest peak that the policy can reach, where that is the reason.
        encodings: the names of those in which its plan keeps values; the gradient is inexact where one of them is.
    """

    name: str
    predicted_peak_bytes: int | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict[str, Reading])
    certified_temporary_bytes: int | None = None
    seconds: float | None = None
    time_ratio: float | None = None
    gradient: Difference | None = None
    value: Difference | None = None
    reason: str | None = None
    smallest_peak_bytes: int | None = None
    encodings: tuple[str, ...] = ()

    @property
    def inexact(self) -> tuple[str, ...]:
        """Those of its encodings that keep inexact values."""
        return tuple(name for name in self.encodings if largest_error([name]))

    @property
    def certified(self) -> Reading | None:
        """The peak by XLA's buffer assignment."""
        return self.readings.get("xla")

    @property
    def resident(self) -> Reading | None:
        """The peak of resident memory above the baseline, if it was measured."""
        return self.readings.get("resident")

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data; of each reading only the peak."""
        peaks = {name: {"bytes": r.bytes, "reason": r.reason} for name, r in self.readings.items()}
        return {**asdict(replace(self, readings={})), "readings": peaks}

    @property
    def feasible(self) -> bool:
        """Whether the policy could meet the budget, so that there was something to measure."""
        return self.reason is None

    def failures(self, budget: int | None) -> list[str]:
        """What is wrong with this row, in words; `budget`, in bytes, binds the policies only."""
        texts: list[str] = []
        for name, difference in (("gradient", self.gradient), ("value", self.value)):
            if difference is not None and difference.excess > 1:
                texts.append(
                    f"{self.name}: the {name}{difference.leaf} ({difference.dtype}) differs from jax.grad's by "
                    f"{difference.relative:.3g} relative, {difference.excess:.3g} times what is allowed"
                )
        peak = self.certified.bytes if self.certified else None
        if budget is not None and self.predicted_peak_bytes is not None and peak is not None and peak > budget:
            texts.append(f"{self.name}: the certified peak of {peak} bytes is above the budget of {budget} bytes")
        return texts


@dataclass(frozen=True, repr=False)
class Validation(Shown):
    """The table that `validate` returns; `print` it, or read `rows` and `to_dict()`.

    Attributes:
        function: the name of the function.
        rows: `jax.grad` first, then `jax.checkpoint`, then the policies.
        budget: bytes beyond the arguments, or None.
        repeats: the number of rounds of timing; 0 where the target is not attached, so that nothing was run.
        tolerance: the largest relative difference allowed, or None for that of each dtype.
        borrowed: primitives that ckptgrad differentiated by JAX's own rule.
        findings: with `locate`, where the gradient goes wrong, in the order of the stages.
        checked: with `locate`, the number of calls of functions with custom rules whose rule was compared with the
            derivative of the function; else None.
        budget_source: what the budget is taken from, in words, where it was asked for as "auto" or as a share.
        least: whether the smallest plan was asked for, with no number of bytes to keep.
        target: what was compiled for.
        devices: the number of devices over which values lie; all bytes are those of one of them.
        arguments: the bytes of each argument, which are held beside those of any row.
        advise: computes the advice on the plan of the first policy that keeps the budget, which pages end with.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> table = cg.validate(lambda x: jnp.sum(jnp.sin(x) ** 2), jnp.ones(1000), meters="xla")
        >>> table.passed, table["optimal"].certified.bytes < table["jax.grad"].certified.bytes + 8192
        (True, True)
    """

    function: str
    rows: tuple[Row, ...]
    budget: int | None
    repeats: int
    tolerance: float | None
    borrowed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    checked: int | None = None
    least: bool = False
    target: str = ""
    devices: int = 1
    arguments: Mapping[str, int] = field(default_factory=dict[str, int])
    advise: Callable[[], tuple[Advice, ...]] | None = field(default=None, compare=False)
    budget_source: str = ""

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def failures(self) -> list[str]:
        """All that is wrong, in words; empty if the gradients agree, the budget is kept and nothing wrong was located."""
        return self.row_failures + messages([f for f in self.findings if f.is_wrong])

    @property
    def row_failures(self) -> list[str]:
        """What is wrong with the rows, in words."""
        return [text for row in self.rows for text in row.failures(self.budget)]

    @property
    def located(self) -> list[str]:
        """What `locate` found, one line per finding; what is wrong comes first."""
        wrong = messages([f for f in self.findings if f.is_wrong])
        lines = [f"wrong: {text}" for text in wrong[:MOST_LINES]]
        if len(wrong) > MOST_LINES:
            lines.append(f"wrong: {len(wrong) - MOST_LINES} more, in `findings`")
        lines += [f"located: {text}" for text in messages([f for f in self.findings if not f.is_wrong])]
        if self.checked is not None and not self.findings:
            lines.append(f"located: nothing; {self.checked} calls of functions with custom rules were checked")
        return lines

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data, ready for JSON, in bytes and seconds."""
        return {
            "function": self.function,
            "target": self.target,
            "devices": self.devices,
            "argument_bytes": dict(self.arguments),
            "budget_bytes": self.budget,
            "budget_source": self.budget_source,
            "repeats": self.repeats,
            "tolerance": self.tolerance,
            "passed": self.passed,
            "failures": self.failures,
            "borrowed_rules": list(self.borrowed),
            "rows": [row.to_dict() for row in self.rows],
            "findings": [f.to_dict() for f in self.findings],
            "custom_rules_checked": self.checked,
        }

    def plot(self) -> Figure:
        """Peaks and times as bars; needs matplotlib."""
        return self.figures()["validation"]()
