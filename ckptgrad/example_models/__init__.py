"""Models of many shapes in plain JAX, for benchmarks, tests and first tries.

Each takes its sizes and a function `wrap` that is applied to its block (for example `jax.checkpoint`), and returns a loss
with its arguments. Some take a source of their weights.
"""

from collections.abc import Callable
from typing import Any

from ckptgrad.example_models.images import resnet, unet
from ckptgrad.example_models.layered import gelu_stack, mixed_widths, recurrent, tanh_chain, tied
from ckptgrad.example_models.llama import argument_axes, llama
from ckptgrad.example_models.parts import Problem, plain, without_arrays
from ckptgrad.example_models.transformers import attention_blocks, bfloat16_transformer, experts, mixer, transformer

# For sweeps over budgets: small enough to compile many plans, large enough that small arrays do not matter.
SWEEP: dict[str, tuple[Callable[..., Problem], dict[str, Any]]] = {
    "tanh": (tanh_chain, {"layers": 16, "width": 128, "batch": 2048}),
    "gelu": (gelu_stack, {"layers": 8, "width": 128, "hidden": 512, "batch": 2048}),
    "transformer": (transformer, {"blocks": 6, "width": 128, "context": 128, "batch": 8}),
    "bfloat16": (bfloat16_transformer, {"blocks": 6, "width": 128, "context": 128, "batch": 8}),
    "resnet": (resnet, {"counts": (2, 2, 2, 2)}),
    "unet": (unet, {}),
    "mixed": (mixed_widths, {}),
    "recurrent": (recurrent, {"steps": 16}),
    "tied": (tied, {}),
    "mixer": (mixer, {}),
}

__all__ = [
    "SWEEP", "Problem", "argument_axes", "attention_blocks", "bfloat16_transformer", "experts", "gelu_stack", "llama",
    "mixed_widths", "mixer", "plain", "recurrent", "resnet", "tanh_chain", "tied", "transformer", "unet", "without_arrays",
]  # fmt: skip
