"""Models at the sizes that accelerators are used with: losses and the types of their arguments, none of which is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax.typing import DTypeLike

from ckptgrad.bench.registry import Bench
from ckptgrad.example_models import (
    Problem,
    attention_blocks,
    experts,
    gelu_stack,
    plain,
    resnet,
    transformer,
    without_arrays,
)


@dataclass(frozen=True)
class TargetModel:
    """A model for accelerators, at full size and at its quick one."""

    title: str
    make: Callable[..., Problem]
    sizes: dict[str, Any]
    quick: dict[str, Any]

    def __call__(self, bench: Bench, dtype: DTypeLike, wrap: Callable[[Callable], Callable] = plain) -> Problem:
        """The loss and the types of its arguments, those of real numbers in `dtype`; `wrap` is applied to the block."""
        options = bench.size(self.sizes, self.quick) | ({"dtype": dtype} if self.make is transformer else {})
        return without_arrays(self.make, dtype, wrap=wrap, **options)


_GELU = {"layers": 12, "width": 1024, "hidden": 4096, "batch": 16384}
_QUICK_GELU = {"layers": 3, "width": 128, "hidden": 512, "batch": 1024}
_QUICK_BLOCKS = {"blocks": 2, "width": 128, "heads": 4, "context": 128, "batch": 2}

MODELS = {
    "mlp": TargetModel("12 GELU layers, 1024 to 4096 to 1024, batch 16,384", gelu_stack, _GELU, _QUICK_GELU),
    "transformer": TargetModel(
        "4 transformer blocks, width 1024, context 1024, batch 8", attention_blocks, {"blocks": 4}, _QUICK_BLOCKS
    ),
    "deep": TargetModel(
        "12 transformer blocks, width 1024, context 1024, batch 8", attention_blocks, {"blocks": 12}, _QUICK_BLOCKS
    ),
    "gpt": TargetModel(
        "GPT-2 small: 12 blocks, width 768, context 1024, 50,257 words, batch 8",
        transformer,
        {"blocks": 12, "width": 768, "heads": 12, "context": 1024, "batch": 8, "vocabulary": 50257},
        _QUICK_BLOCKS | {"vocabulary": 512},
    ),
    "resnet": TargetModel(
        "ResNet-50's chain of blocks with group norm, 64 images of 112 x 112",
        resnet,
        {"width": 64, "size": 56, "batch": 64},
        {"counts": (1, 1), "width": 16, "size": 16, "batch": 4},
    ),
    "experts": TargetModel(
        "6 layers of 8 experts, 1024 to 4096 to 1024, 16,384 tokens",
        experts,
        {"layers": 6},
        {"layers": 2, "width": 64, "hidden": 128, "count": 4, "groups": 2, "tokens": 128},
    ),
    "scan": TargetModel(
        "A scan over 12 GELU layers, 1024 to 4096 to 1024, batch 16,384",
        gelu_stack,
        _GELU | {"scanned": True},
        _QUICK_GELU | {"scanned": True},
    ),
}
