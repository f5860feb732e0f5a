"""Which values a stage may keep for its backward: minimum cuts of its forward graph.

There is the front of bytes against recomputation (`min_cut`), and beside it one choice for each level of `LEVELS`: the
fewest bytes from which the backward can go on without doing an operation of that level again.  The levels
are those of `jax.checkpoint_policies` (`everything_saveable`, `dots_saveable`, `dots_with_no_batch_dims_saveable`,
`nothing_saveable`), so that what is chosen is never worse than any of these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeAlias

from jax import ad_checkpoint  # noqa: TID251 (the words in which policies answer)

from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.graph.traits import is_heavy, is_materialised, is_product, is_transcendental
from ckptgrad.graph.work import has_batch_dimensions
from ckptgrad.stage.joint import Joint
from ckptgrad.stage.min_cut import Choice, KeepNetwork, front
from ckptgrad.target.platform import Isolation
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target

Fixed: TypeAlias = Callable[[Operation], bool]
# A predicate of `jax.checkpoint_policies`: (primitive, *abstract arguments, **parameters) -> whether to save.
Saveable: TypeAlias = Callable[..., Any]


# From most kept to least: the operations that a choice may not do again.  Cheap work is fused into what reads it: "all"
# does not keep it, and no compiler would.
LEVELS: tuple[tuple[str, Fixed], ...] = (
    ("all", lambda op: is_transcendental(op) or is_materialised(op)),
    ("heavy", is_heavy),
    ("products", is_product),
    ("unbatched products", lambda op: is_product(op) and not has_batch_dimensions(op)),
    ("input", lambda op: False),
)


def residual_choices(
    joint: Joint,
    boundary: Collection[Variable],
    roofline: Roofline,
    saveable: Saveable | None = None,
) -> list[tuple[str, list[Variable]]]:
    """The choices of what to keep that no other one beats in bytes and recomputation, from most kept to least.

    Args:
        joint: the joint graph of the stage.
        boundary: the inputs that are held only if the plan says so (arguments are free).
        roofline: the rates by which recomputation is timed.
        saveable: which operations' results may be kept, in the form of `jax.checkpoint_policies`; None: all.
    """
    may_keep = None if saveable is None else partial(is_saveable, saveable=saveable)
    network = KeepNetwork(joint, boundary, roofline, may_keep)
    by_kept: dict[tuple[Variable, ...], tuple[str, Choice]] = {}
    for name, fixed in LEVELS:
        choice = network.keeping_results_of(fixed)
        if choice is not None:
            by_kept.setdefault(choice.keep, (name, choice))
    most = max((c.bytes for _, c in by_kept.values()), default=1) or 1
    for choice in front(network):
        by_kept.setdefault(choice.keep, (f"{100 * choice.bytes / most:.0f} %", choice))
    whole = tuple(v for v in joint.inputs if v in boundary)
    if whole not in by_kept:
        seconds = sum(roofline.again(op) for op in needed_operations(joint.forward_operations, joint.frontier))
        by_kept[whole] = ("input", Choice(whole, roofline.target.total_bytes(whole), seconds))
    arriving = frozenset(whole)
    chosen = sorted(by_kept.values(), key=lambda pair: (-pair[1].bytes, pair[1].seconds))
    kept = [pair for pair in chosen if not any(_beats(other, pair[1], arriving, roofline.target) for _, other in chosen)]
    offered = _thinned(kept, most // 64, arriving)
    if roofline.target.platform.isolation is Isolation.BARRIERS and whole not in [choice.keep for _, choice in offered]:
        # A repetition and its backward are one region there, which the planner sees as this choice.
        offered.append(by_kept[whole])
    return [(name, list(choice.keep)) for name, choice in offered]


def _thinned(choices: list[tuple[str, Choice]], least: int, arriving: frozenset[Variable]) -> list[tuple[str, Choice]]:
    """Choices that differ by at least `least` bytes, or in whether they read the boundary; the first of those alike."""
    kept: list[tuple[str, Choice]] = []
    for name, choice in choices:
        reads = arriving & {*choice.keep}
        alike = kept and kept[-1][1].bytes - choice.bytes < least and reads == arriving & {*kept[-1][1].keep}
        if not alike:
            kept.append((name, choice))
    return kept


def _beats(a: Choice, b: Choice, arriving: frozenset[Variable], target: Target) -> bool:
    """Whether `a` is better than `b` in one respect and worse in none."""
    reads = [target.total_bytes(v for v in c.keep if v in arriving) for c in (a, b)]
    ours = (a.bytes - reads[0], a.seconds, reads[0])
    theirs = (b.bytes - reads[1], b.seconds, reads[1])
    return ours != theirs and all(x <= y for x, y in zip(ours, theirs, strict=True))


def is_saveable(op: Operation, saveable: Saveable) -> bool:
    """What a predicate of `jax.checkpoint_policies` says of an operation.  Offloading counts as saving.

    Raises:
        GradientTypeError: the answer is not one that JAX knows.
    """
    answer = saveable(op.primitive, *(a.aval for a in op.inputs), **op.params)
    if isinstance(answer, bool):
        return answer
    if answer is ad_checkpoint.Recompute:
        return False
    if answer is ad_checkpoint.Saveable or isinstance(answer, ad_checkpoint.Offloadable):
        return True
    raise GradientTypeError(
        f"`saveable` must answer with a bool, or Recompute, Saveable or Offloadable(...) of jax.ad_checkpoint; for "
        f"{op.name} it answered {answer!r}{f', at {op.source}' if op.source else ''}"
    )
