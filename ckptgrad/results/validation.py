"""What `validate` found: a row each for the references and the policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckptgrad.meters.meter import Reading
from ckptgrad.results.finding import Finding, messages
from ckptgrad.results.shown import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Findings that the text table shows.
MOST_LINES = 12


@dataclass(frozen=True)
class Difference:
    """How one pytree differs from its reference.

    Attributes:
        relative: the largest relative difference over the leaves.
        excess: the largest ratio of a leaf's relative difference to what its dtype allows; above 1 is too far.
        leaf: path of the leaf with that excess.
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
    """One way to the gradient.

    Attributes:
        name: "jax.grad", "jax.checkpoint" or a policy's name.
        predicted_peak_bytes: by the planner; None for the references.
        readings: peak by each meter, by its name; "xla" is among them.
        certified_temporary_bytes: the part of it that is neither value nor gradient.
        seconds: median time of a call.
        time_ratio: median ratio to `jax.grad` in the same round.
        gradient, value: how far they lie from those of `jax.grad`.
        reason: why there is no such row (the budget is below what the policy can reach), or None.
        smallest_peak_bytes: the smallest peak that the policy can reach, where that is the reason.
    """

    name: str
    predicted_peak_bytes: int | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    certified_temporary_bytes: int | None = None
    seconds: float | None = None
    time_ratio: float | None = None
    gradient: Difference | None = None
    value: Difference | None = None
    reason: str | None = None
    smallest_peak_bytes: int | None = None

    @property
    def certified(self) -> Reading | None:
        """The peak by XLA's buffer assignment."""
        return self.readings.get("xla")

    @property
    def resident(self) -> Reading | None:
        """The peak resident memory above baseline, if it was measured."""
        return self.readings.get("resident")

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data; of readings the peaks."""
        peaks = {name: {"bytes": r.bytes, "reason": r.reason} for name, r in self.readings.items()}
        return {**asdict(replace(self, readings={})), "readings": peaks}

    @property
    def feasible(self) -> bool:
        """Whether there was something to compare."""
        return self.reason is None

    def failures(self, budget: int | None) -> list[str]:
        """What is wrong with this row, in words; `budget` in bytes binds policies only."""
        found = []
        for what, apart in (("gradient", self.gradient), ("value", self.value)):
            if apart is not None and apart.excess > 1:
                found.append(
                    f"{self.name}: the {what}{apart.leaf} ({apart.dtype}) differs from jax.grad's by "
                    f"{apart.relative:.3g} relative, {apart.excess:.3g} times what is allowed"
                )
        peak = self.certified.bytes if self.certified else None
        if budget is not None and self.predicted_peak_bytes is not None and peak is not None and peak > budget:
            found.append(f"{self.name}: the certified peak of {peak} bytes is above the budget of {budget} bytes")
        return found


@dataclass(frozen=True, repr=False)
class Validation(Shown):
    """The table that `validate` returns; `print` it, or read `rows` and `to_dict()`.

    Attributes:
        function: the function's name.
        rows: `jax.grad` first, then `jax.checkpoint`, then the policies.
        budget: bytes, or None.
        repeats: rounds of timing.
        tolerance: what was allowed, or None for that of each dtype.
        borrowed: primitives that ckptgrad differentiated by JAX's own rule.
        findings: with `locate`, where the gradient goes wrong, in the order of the stages.
        checked: with `locate`, how many calls of functions with custom rules were compared with their functions'
            derivatives; else None.

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

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def failures(self) -> list[str]:
        """All that is wrong, in words; empty when all gradients agree, the budget holds and nothing wrong was located."""
        return self.row_failures + messages([f for f in self.findings if f.is_wrong])

    @property
    def row_failures(self) -> list[str]:
        """What is wrong with the rows, in words."""
        return [text for row in self.rows for text in row.failures(self.budget)]

    @property
    def located(self) -> list[str]:
        """What `locate` found, a line each; what is wrong comes first."""
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
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data, ready for JSON; bytes and seconds."""
        return {
            "function": self.function,
            "budget_bytes": self.budget,
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
