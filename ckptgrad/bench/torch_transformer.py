"""The transformer of `models` in eager torch: the same parameters, and the same operations in the same order.

Run as a script with the path of a job, it measures the peak of its own resident set and prints it, as `meters.resident`
does for JAX's programs. torch is imported only inside functions, because memory-profiler's sampling process imports this
file too.
"""

# No extra installs torch, so the types must check without it.
# pyright: reportMissingImports=false

from __future__ import annotations

import gc
import math
import multiprocessing
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

# As in the resident meter: the sampling interval, how long to repeat the call, the pause between calls and before the first.
INTERVAL_SECONDS, LEAST_SECONDS, REST_SECONDS, SETTLE_SECONDS = 0.001, 0.25, 0.005, 0.5


def on_torch(tree: Any) -> Any:
    """A tree of NumPy arrays as torch tensors; those of floats require gradients."""
    import torch

    if isinstance(tree, dict):
        return {name: on_torch(branch) for name, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [on_torch(branch) for branch in tree]
    tensor = torch.from_numpy(tree.copy())
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor.long()


def leaves(tree: Any) -> list[Any]:
    """The tensors of a tree in JAX's order: dictionaries sorted by key."""
    if isinstance(tree, dict):
        return [leaf for name in sorted(tree) for leaf in leaves(tree[name])]
    return [leaf for branch in tree for leaf in leaves(branch)] if isinstance(tree, list) else [tree]


def gradient(params: Any, tokens: Any, heads: int, checkpointed: bool) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    """A function without arguments that returns the loss and the gradients of all parameters.

    Args:
        params, tokens: NumPy arrays, as `example_models.transformer` makes them.
        heads: attention heads.
        checkpointed: whether every block is under torch.utils.checkpoint.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    params, tokens = on_torch(params), on_torch(tokens)
    parameters = leaves(params)

    def block(p: dict[str, Any], x: Any) -> Any:
        if checkpointed:
            return checkpoint(transformer_block, p, x, heads, use_reentrant=False)
        return transformer_block(p, x, heads)

    def loss() -> Any:
        x = params["embedding"][tokens[:, :-1]] + params["position"]
        for p in params["blocks"]:
            x = block(p, x)
        x = layer_norm(x, params["gain"], params["bias"])
        logits = torch.log_softmax(x @ params["embedding"].T, -1)
        return -torch.gather(logits, -1, tokens[:, 1:, None]).mean()

    def call() -> tuple[Any, tuple[Any, ...]]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, parameters)

    return call


def layer_norm(x: Any, gain: Any, bias: Any) -> Any:
    """The models' layer norm by torch's own kernel."""
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:], gain, bias, 1e-5)


def transformer_block(p: dict[str, Any], x: Any, heads: int) -> Any:
    """Attention and a feed-forward layer, each with a norm before it and a residual connection."""
    import torch

    batch, context, width = x.shape
    h = layer_norm(x, p["g1"], p["b1"])
    q, k, v = ((h @ p["qkv"]).view(batch, context, 3, heads, width // heads).permute(2, 0, 3, 1, 4)).unbind(0)
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    causal = torch.ones(context, context, dtype=torch.bool).tril()
    mixed = torch.softmax(scores.masked_fill(~causal, -1e30), -1) @ v
    x = x + mixed.transpose(1, 2).reshape(batch, context, width) @ p["out"]
    h = layer_norm(x, p["g2"], p["b2"])
    return x + torch.nn.functional.gelu(h @ p["up"] + p["up_bias"], approximate="tanh") @ p["down"] + p["down_bias"]


def main(path: str) -> None:
    """Print the peak of a call in bytes, above the baseline measured after a first call."""
    from memory_profiler import memory_usage

    with open(path, "rb") as file:
        call = gradient(**pickle.load(file))
    call()

    def run() -> None:
        start = time.perf_counter()
        while True:
            results = call()
            if time.perf_counter() - start > LEAST_SECONDS:
                break
            del results
            time.sleep(REST_SECONDS)

    gc.collect()
    time.sleep(SETTLE_SECONDS)
    multiprocessing.set_start_method("spawn")
    before = memory_usage(-1, interval=INTERVAL_SECONDS, timeout=SETTLE_SECONDS, max_usage=True)
    task: Any = (run, ())
    print(int((memory_usage(task, interval=INTERVAL_SECONDS, max_usage=True) - before) * 2**20))


if __name__ == "__main__":
    main(sys.argv[1])
