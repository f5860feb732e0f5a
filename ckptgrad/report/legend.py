"""What the words in tables mean, said where they stand."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from rich.text import Text

from ckptgrad.report.series.words import INSIDE

# The names of save options (`stage.save_options`).
KEPT = {
    "all": "all that is not cheap to compute again",
    "heavy": "results of products, convolutions, reductions and the like",
    "products": "results of products",
    "unbatched products": "results of products without batch dimensions",
    "input": "only what the stage reads",
}
# What stands beside them, in the order in which it is explained: patterns, and what they mean.
_BESIDE = {
    r"\d+ %": "that share of the bytes of the choice that keeps most",
    r"as \w[\w ]*": "values in fewer bytes, which encodings= names",
    r"\d+ chunks? of \d+": "entries of an axis, so many at a time, one chunk after the other",
    r"in one pass": "forward and backward in the same loop",
    r"every step stored": "of a loop, what the backward of each of its steps reads",
    r"\d+ x \d+ steps?": "of a loop, as many checkpoints, each with as many steps after it that run again",
    r"\d+ checkpoints?, \d+ steps?": "of a loop, so many checkpoints at once, and so many steps that run again together",
}
# The kinds of what is held (`meters.buffers.KINDS`).
KINDS = {
    "results": "outputs and gradients of arguments",
    "boundaries": "what passes from one stage to later ones",
    "residuals": "what a forward keeps for its stage's backward beside them",
    "gradients": "cotangents on their way back",
    "transients": "what is held inside a stage while it runs",
    INSIDE: "arrays that these transients are, as estimated",
}


def dim_legend(words: Mapping[str, str]) -> Text:
    """A line for each word."""
    return Text("\n".join(f"{word}: {meaning}" for word, meaning in words.items()), style="dim")


def kept_words(names: Collection[str]) -> str:
    """What names of save options mean, those that occur: "all: all that is not cheap to compute again"."""
    parts = {part for name in names for part in name.split(", ")}
    words = [f"{name}: {KEPT[name]}" for name in KEPT if name in parts]
    for pattern, meaning in _BESIDE.items():
        found = (match[1] for name in sorted(names) if (match := re.search(rf"(?:^|, )({pattern})(?:$|, )", name)))
        if (example := next(found, None)) is not None:
            words.append(f"{example}: {meaning}")
    return "; ".join(words)


def kind_words(kinds: Iterable[str]) -> str:
    """What kinds of buffers are, those that occur, in a line."""
    there = {*kinds}
    return "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items() if kind in there)
