"""The statements of programs, as rows of templates.

Kinds of values: v float64[4], f float32[4], h bfloat16[4], c complex128[4], s float64[], m float64[4, 4], i int32[],
n int32[4], b bool[4], t bool[], k a raw PRNG key. In a template, `{a|b}` is a choice. Blocks are written `vv>v`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A kind of statement.

    Attributes:
        template: the expression.
        kinds, kind: of the operands, and of the result.
        blocks: signatures of the functions it takes.
        weight: how often it is drawn.
        needs: what a program must allow for it to be drawn.
    """

    template: str
    kinds: str
    kind: str
    blocks: tuple[str, ...] = ()
    weight: float = 1.0
    needs: str = ""


_ELEMENTWISE = [
    "{jnp.sin|jnp.cos|jnp.tanh|jnp.arctan}($0)", "{jax.nn.relu|jax.nn.softplus|jax.nn.sigmoid|jax.nn.silu}($0)",
    "$0 {*|+|-} $0", "-$0", "1.5 * $0 - {2|0.25}", "jnp.exp(-$0 * $0)", "$0 / (1 + $0 * $0)", "jnp.cumsum($0) / 3", "$0[::-1]",
    "$0 ** {2|3}", "jnp.roll($0, {1|-1|2})", "lax.stop_gradient($0) * 0.5 + $0", "jnp.broadcast_to($0.mean(), (4,))",
    "$0[jnp.array([{0, 0, 2, 3|3, 1, 2, 0|1, 1, 1, 1}])]", "$0.reshape(2, 2).T.reshape(4)", "$0.at[{0|3|-1}].{set|add|mul}(0.5, unique_indices=True)",
    "jnp.concatenate([$0[2:], $0[:2]])", "jnp.pad($0[1:3], 1, mode='{edge|reflect|constant}')",
    "jax.jit(lambda a: a * jnp.sin(a))($0)", "jnp.repeat($0[:2], 2)", "jnp.where($1, $0, 0.5 * $0)",
]  # fmt: skip

_BINARY = ["$0 {+|-|*} $1", "$0 / (1.5 + $1 * $1)", "jnp.where($0.real > $1.real, $0, $1)", "$1 - 0.5 * $0 * $1"]

_REAL = [
    "jnp.{maximum|minimum}($0, {0.1|$1})", "jnp.arctan2($0, 1.5 + $1 * $1)", "jnp.logaddexp($0, $1)", "jnp.sort($0)",
    "jax.nn.softmax($0)", "jnp.clip($0, -0.4, 0.6)", "jnp.abs($0)", "lax.top_k($0, 4)[0]", "lax.cummax($0)",
    "jnp.prod(jnp.tanh($0)) * $1", "$0[jnp.argsort($1)]", "jnp.cumprod(jnp.tanh($0))", "jax.nn.logsumexp($0) * $1",
    "jnp.hypot($0, 1 + $1)", "jnp.round($0 * 2) * $1", "jnp.mod($0, 0.7)", "jax.lax.reduce_precision($0, 11, 52) * $1",
]  # fmt: skip

ROWS: list[Row] = [
    *(Row(t, k + "b" if "$1" in t else k, k, weight=0.35) for t in _ELEMENTWISE for k in "vvv"),
    *(Row(t, k + "b" if "$1" in t else k, k, weight=0.2, needs="mixed") for t in _ELEMENTWISE for k in "fhc"),
    *(Row(t, k + k, k, weight=0.8) for t in _BINARY for k in "vvv"),
    *(Row(t, k + k, k, weight=0.5, needs="mixed") for t in _BINARY for k in "fhc"),
    *(Row(t, "vv", "v", weight=0.5) for t in _REAL),
    *(Row(t, "ff", "f", weight=0.2, needs="mixed") for t in _REAL if "precision" not in t),
    # Conversions between kinds.
    Row("$0.astype(jnp.float32)", "v", "f", needs="mixed"),
    Row("$0.astype(jnp.bfloat16)", "[vf]", "h", needs="mixed"),
    Row("$0.astype(jnp.float64)", "[fh]", "v", needs="mixed", weight=2),
    Row("lax.convert_element_type($0, jnp.float64) * $1", "[fh]v", "v", needs="mixed"),
    Row("$0 * $1", "fv", "v", needs="mixed"), Row("$0 * $1", "hf", "f", needs="mixed"), Row("$0 * $1", "cv", "c", needs="mixed"),
    Row("$0 + 1j * $1", "vv", "c", needs="mixed"), Row("lax.complex($0, $1)", "vv", "c", needs="mixed"),
    Row("jnp.{real|imag|abs}($0 + 2)", "c", "v", needs="mixed", weight=2), Row("jnp.conj($0)", "c", "c", needs="mixed"),
    Row("jnp.fft.{fft|ifft}($0)", "c", "c", needs="mixed"), Row("jnp.fft.rfft($0, 6).imag", "v", "v", needs="mixed"),
    Row("jnp.exp(1j * $0)", "v", "c", needs="mixed"), Row("jnp.angle($0 + 3)", "c", "v", needs="mixed"),
    Row("jnp.{sum|mean|max|min|prod}($0)", "v", "s"), Row("$0[{0|1|-1}]", "v", "s"), Row("$0 @ $1", "vv", "s"),
    Row("jnp.linalg.norm($0 + 2)", "v", "s"), Row("jnp.trace($0)", "m", "s", weight=0.5), Row("$0 * $1", "ss", "s"),
    Row("jnp.var($0)", "v", "s", weight=0.5), Row("jnp.{sin|tanh}($0)", "s", "s"), Row("$0 * $1", "sv", "v", weight=1.5),
    Row("jnp.full((4,), $0)", "s", "v", weight=0.5), Row("jnp.stack([$0, $1, $0, 1.0])", "ss", "v"),
    Row("jnp.outer(jnp.tanh($0), $1)", "vv", "m"), Row("$0 @ $1 / 4", "mv", "v", weight=2), Row("$1 @ $0 / 4", "mv", "v"),
    Row("$0 @ $1 / 4", "mm", "m"), Row("$0.T", "m", "m"), Row("jnp.tanh($0)", "m", "m"), Row("$0[{0|2}]", "m", "v"),
    Row("jnp.diag($0)", "m", "v", weight=0.5), Row("jnp.diag($0)", "v", "m", weight=0.5), Row("$0.sum({0|1})", "m", "v"),
    Row("jnp.linalg.solve($0 * 0.1 + 3 * jnp.eye(4), $1)", "mv", "v"),
    Row("jnp.linalg.cholesky($0 @ $0.T * 0.1 + 2 * jnp.eye(4))", "m", "m", weight=0.5),
    Row("jnp.linalg.inv($0 * 0.1 + 3 * jnp.eye(4))", "m", "m", weight=0.4),
    Row("jnp.linalg.slogdet($0 * 0.1 + 3 * jnp.eye(4))[1]", "m", "s", weight=0.3),
    Row("jnp.linalg.qr($0 * 0.1 + 3 * jnp.eye(4))[{0|1}]", "m", "m", weight=0.3),
    Row("jnp.convolve($0, $1[:3], mode='same')", "vv", "v"),
    Row("lax.conv_general_dilated($0[None, None], $1[None, None, :{2|3}], (1,), 'SAME')[0, 0]", "vv", "v"),
    Row("lax.reduce_window($0, 0.0, lax.add, (2,), (1,), 'SAME')", "v", "v", weight=0.5),
    Row("lax.reduce_window($0, -jnp.inf, lax.max, (2,), (1,), 'SAME')", "v", "v", weight=0.5),
    # Integers, booleans, keys.
    Row("jnp.argmax($0).astype(jnp.int32)", "v", "i"), Row("($0 * {3|5} + 1) % 4", "i", "i", weight=0.5),
    Row("jnp.argsort($0).astype(jnp.int32)", "v", "n"), Row("jnp.arange(4, dtype=jnp.int32) * $0 % 5", "i", "n"),
    Row("$0 > {0|0.3|$1}", "vv", "b"), Row("$0.any()", "b", "t"), Row("$0 % 2 == 1", "n", "b"), Row("$0[0] > $1[1]", "vv", "t"),
    Row("jnp.where($0, $1, $2)", "bvv", "v", weight=2), Row("$0 * $1", "bv", "v"), Row("$0 * $1", "nv", "v"),
    Row("lax.select($0, $1, $2)", "tvv", "v"), Row("jnp.where($0, $1, 2.0)", "tv", "v"),
    Row("jax.random.split($0)[{0|1}]", "k", "k", weight=0.4), Row("jax.random.fold_in($0, $1)", "ki", "k", weight=0.4),
    Row("jax.random.bernoulli($0, 0.6, (4,))", "k", "b", weight=0.5),
    Row("jax.random.normal($0, (4,)) * $1", "kv", "v", weight=0.5),
    Row("jax.random.uniform(jax.random.wrap_key_data($0), (4,)) + $1", "kv", "v", weight=0.5),
    Row("jax.random.permutation($0, $1)", "kv", "v", weight=0.2),
    # Gathers and scatters at indices known only at run time.
    Row("$0.at[$1].get(mode='{clip|fill}', fill_value=0.5)", "vn", "v"), Row("$0[$1]", "vi", "s"), Row("jnp.take($0, $1, mode='clip')", "vn", "v"),
    Row("$0.at[$1 % 4].{set|add}($2)", "vis", "v"), Row("$0.at[$1].add($2, mode='{clip|drop}')", "vnv", "v"),
    Row("$0.at[jnp.array([{2, 0|1, 3}])].{set|add|mul}($1[:2], unique_indices=True)", "vv", "v"),
    Row("lax.dynamic_slice($0, ($1,), (2,)).sum()", "vi", "s"), Row("lax.dynamic_update_slice($0, $1[:2], ($2,))", "vvi", "v"),
    Row("jax.ops.segment_sum($0, $1, num_segments=4)", "vn", "v"), Row("$0[$1, {0|1}]", "mn", "v", weight=0.5),
    # Functions inside programs.
    Row("lax.cond($0[{0|1}] > {0.0|0.5}, $f0, $f1, $0, $1)", "vv", "v", ("vv>v", "vv>v"), weight=2),
    Row("lax.cond($0, $f0, $f1, $1)", "tv", "v", ("v>v", "v>v"), weight=1.5),
    Row("lax.switch($0 % {3|4}, [$f0, $f1, $f2], $1)", "iv", "v", ("v>v", "v>v", "v>v")),
    Row("jax.jit($f0)($0, $1)", "vv", "v", ("vv>v",), weight=1.5),
    Row("jax.checkpoint($f0)($0, $1)", "vv", "v", ("vv>v",)),
    Row("jax.checkpoint($f0, policy=jax.checkpoint_policies.dots_saveable)($0, $1)", "vv", "v", ("vv>v",), weight=0.5),
    Row("d.stage($f0)($0, $1)", "vv", "v", ("vv>v",), weight=2.5),
    Row("d.checkpoint($f0, policy='{recompute_all|optimal}')($0, $1)", "vv", "v", ("vv>v",)),
    Row("jax.named_scope('inside')($f0)($0, $1)", "vv", "v", ("vv>v",), weight=0.5),
    Row("jax.vmap($f0)($0, $1)", "vv", "v", ("ss>s",)),
    Row("jax.vmap($f0, in_axes=({0|1}, None))($0, $1)", "mv", "m", ("vv>v",)),
    Row("jax.vmap($f0, in_axes=(0, {1|0}), out_axes={1|0})($0, $1)", "mm", "m", ("vv>v",), weight=0.5),
    Row("jax.grad(lambda a: jnp.sum($f0(a)))($0)", "v", "v", ("v>v",), weight=0.7),
    Row("jax.jvp($f0, ($0,), ($1,))[{0|1}]", "vv", "v", ("v>v",), weight=0.5),
    Row("jax.vjp($f0, $0)[1]($1)[0]", "vv", "v", ("v>v",), weight=0.5),
    Row("lax.map($f0, $0)", "v", "v", ("s>s",), weight=0.7),
]  # fmt: skip
