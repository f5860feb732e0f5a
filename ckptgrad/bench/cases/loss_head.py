"""The loss over a large vocabulary, plainly written, against the one that is written by hand in chunks of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.stages import Compiled

import ckptgrad as cg
from ckptgrad.bench.cases.targets import estimated_time
from ckptgrad.bench.measure import certified_program, compare_programs, peer_program
from ckptgrad.bench.on_target import RefusedError, compiled_for, for_target, kept_values, plan_for
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.target.allocated import compiled_memory

# Words, width, tokens and the chunks of the one written by hand: on a chip, on this machine, and quickly.
ON_CHIP, HERE, QUICK = (256_000, 2048, 8192, 64), (16_384, 256, 2048, 16), (512, 16, 128, 8)
ROUNDS, QUICK_ROUNDS = 7, 2
# Ours may take as many times the bytes of the one by hand.
MORE = 1.05

ABOUT = """Mean cross entropy of tokens over words, and its gradient with respect to the words' matrix and the tokens, in
float32. By hand: one loop over chunks of tokens that makes the loss and both gradients, as in many training libraries. Ours
is made from the plain loss, within 1.05 of the bytes of that."""


def loss(params: tuple[jax.Array, jax.Array], labels: jax.Array) -> jax.Array:
    """Mean cross entropy of (words, tokens), as it stands in books."""
    words, tokens = params
    logits = tokens @ words.T
    return jnp.mean(jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, labels[:, None], -1)[:, 0])


def by_hand(chunks: int) -> Callable[..., Any]:
    """The value and gradients of `loss`, a chunk of tokens at a time: of one chunk the logits are held once."""

    def value_and_grad(params: tuple[jax.Array, jax.Array], labels: jax.Array) -> Any:
        words, tokens = params
        count = tokens.shape[0]
        entries = count // chunks

        def step(k: Any, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            total, of_words, of_tokens = carry
            some = lax.dynamic_slice_in_dim(tokens, k * entries, entries)
            wanted = lax.dynamic_slice_in_dim(labels, k * entries, entries)[:, None]
            logits = some @ words.T
            normalizer = jax.nn.logsumexp(logits, -1, keepdims=True)
            total += jnp.sum(normalizer - jnp.take_along_axis(logits, wanted, -1))
            slopes = (jnp.exp(logits - normalizer) - (wanted == jnp.arange(words.shape[0]))) / count
            of_tokens = lax.dynamic_update_slice_in_dim(of_tokens, slopes @ words, k * entries, 0)
            return total, of_words + slopes.T @ some, of_tokens

        zeros = jnp.zeros((), tokens.dtype), jnp.zeros_like(words), jnp.zeros_like(tokens)
        total, of_words, of_tokens = lax.fori_loop(0, chunks, step, zeros)
        return total / count, (of_words, of_tokens)

    return value_and_grad


def problem(words: int, width: int, tokens: int) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The arguments of `loss`."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.random.normal(keys[0], (words, width)) / width**0.5, jax.random.normal(keys[1], (tokens, width))
    return params, jax.random.randint(keys[2], (tokens,), 0, words)


@case("loss-head", "A loss over 16,384 words at width 256, 2,048 tokens", ABOUT)
def loss_head(bench: Bench) -> Iterator[Row]:
    """Measured on this machine."""
    *sizes, chunks = bench.size(HERE, QUICK)
    args = problem(*sizes)
    bench.announce("by hand")
    hand = peer_program(f"by hand, {chunks} chunks", by_hand(chunks), args)
    bench.announce("ours")
    ours = certified_program("ours", loss, args, int(MORE * compiled_memory(hand.executable).peak_bytes), chunks=True)
    programs = [hand, ours, peer_program("jax.grad", jax.value_and_grad(loss), args)]
    yield from compare_programs(programs, bench.size(ROUNDS, QUICK_ROUNDS))


@case("targets-h100-loss-head", "A loss over 256,000 words at width 2,048, 8,192 tokens, on h100", ABOUT)
def loss_head_on_chip(bench: Bench) -> Iterator[Row]:
    """Compiled for a chip that need not be here; seconds are estimates of the compiled programs."""
    *sizes, chunks = bench.size(ON_CHIP, QUICK)
    args = jax.eval_shape(lambda: problem(*sizes))

    def rows(target: cg.Target) -> Iterator[Row]:
        def values(executable: Compiled) -> dict[str, Any]:
            memory, (seconds, _) = target.allocated(executable), estimated_time(target, executable)
            return {
                "certified_bytes": memory.peak_bytes,
                "temporaries_bytes": memory.temporary_bytes,
                "estimated_seconds": seconds,
            }

        bench.announce("by hand")
        hand = values(compiled_for(target, by_hand(chunks), args)[0])
        yield row(f"by hand, {chunks} chunks", **hand)
        bench.announce("ours")
        try:
            certified, _ = plan_for(target, loss, args, int(MORE * hand["certified_bytes"]))
        except RefusedError as refused:
            yield row("ours", skipped=str(refused))
            return
        ours = values(certified.executable)
        ratio = ours["estimated_seconds"] / hand["estimated_seconds"]
        yield row("ours", **kept_values(certified) | ours, time_against_rival_ratio=ratio)

    yield from for_target("h100", rows)
