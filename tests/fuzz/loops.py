"""Loops with buffers, written and read at indices that count up, wrap around, stay put, clamp, and go out of range."""

from __future__ import annotations

# Dtypes of counters and their start values, some close to the end of a narrow dtype's range.
COUNTERS = {
    "np.int32": ["0", "0", "0", "1", "3", "-1", "-2"],
    "np.int64": ["0", "0", "2", "-1"],
    "np.uint8": ["0", "0", "1", "250", "254", "255"],
    "np.int8": ["0", "0", "2", "124", "127", "-128", "-2"],
    "np.int16": ["0", "1", "32765"],
    "np.uint32": ["0", "1", "4294967294"],
}
FLOATING = {
    "np.float32": ["0", "1", "16777214"],
    "np.float16": ["0", "2046"],
    "jnp.bfloat16": ["0", "254"],
    "np.float64": ["0"],
}
# How counters advance; `T` is the dtype.
STEPS = [
    "i + T(1)", "i + T(1)", "i + T(1)", "i + T(1)", "i + T(1)", "1 + i", "i + T(2)", "i - T(1)", "i * T(2) + T(1)",
    "(i + T(1)) % T(3)", "i", "jnp.minimum(i + T(1), T(3))", "i + (s[0] > 0).astype(i.dtype)", "lax.select(s[0] > 0.2, i + T(1), i)",
]  # fmt: skip
# The index computed from a counter; `R` is the number of rows.
PLACES = [
    "i", "i", "i", "i", "i", "i.astype(jnp.int32)", "i.astype(jnp.int8)", "i.astype(jnp.uint8)", "i.astype(jnp.int64)",
    "i.astype(jnp.float32).astype(jnp.int32)", "i.astype(jnp.bfloat16).astype(jnp.int32)", "i.astype(jnp.float16).astype(jnp.int32)",
    "i.astype(jnp.int32) // 2", "i * i", "i + i", "R - 1 - i.astype(jnp.int32)", "i.astype(jnp.int32) % R", "i % i.dtype.type(2)",
    "i.astype(jnp.int32) + 1", "i.astype(jnp.int32) - 1", "jnp.clip(i.astype(jnp.int32), 0, R - 1)", "i.astype(jnp.int32) & 3", "jnp.abs(i)",
    "(i.astype(jnp.int32) * 3) % R", "lax.rem(i.astype(jnp.int32), np.int32(4))", "jnp.minimum(i.astype(jnp.int32), 2)", "-i.astype(jnp.int32)",
    "lax.select(s[0] > 0, i.astype(jnp.int32), jnp.int32(0))", "i.astype(jnp.int32) + n % 2", "lax.bitcast_convert_type(i.astype(jnp.int32), jnp.uint32)",
]  # fmt: skip
WRITES = [
    "b = b.at[P].set(s)", "b = b.at[P].set(s)", "b = b.at[P].set(s, mode='M')", "b = b.at[P].add(s, mode='M')", "b = b.at[P].add(s)",
    "b = lax.dynamic_update_slice(b, s[None], (P, jnp.zeros_like(P)))", "b = lax.dynamic_update_slice(b, s[None], (P, jnp.zeros_like(P)))",
    "b = lax.dynamic_update_index_in_dim(b, s, P, 0)", "b = lax.dynamic_update_slice_in_dim(b, s[None], P, 0)",
    "b = b.at[P].set(s * b[P])", "b = b.at[P, 1].set(s[1])", "b = b.at[P].mul(1.1, unique_indices=True)",
    "b = b.at[jnp.stack([P, P])].set(jnp.stack([s, s]), mode='M')", "b = b.at[P, :].set(s, unique_indices=True)",
    "b = lax.cond(s[1] > 0, lambda b: b.at[P].set(s), lambda b: b, b)", "b = jnp.where(s[1] > 0.1, b.at[P].set(s), b)",
]  # fmt: skip
READS = [
    "e = b[P]", "e = b[P]", "e = b.at[P].get(mode='M')", "e = b.at[P].get(mode='fill', fill_value=0.3)",
    "e = lax.dynamic_slice(b, (P, jnp.zeros_like(P)), (1, 4))[0]", "e = lax.dynamic_slice(b, (P, jnp.zeros_like(P)), (1, 4))[0]",
    "e = lax.dynamic_index_in_dim(b, P, 0, keepdims=False)", "e = b.sum(0)", "e = lax.dynamic_slice_in_dim(b, P, min(2, R), 0).sum(0)",
    "e = b[P] + b[0]", "e = jnp.take(b, P, axis=0, mode='clip')", "e = b[::-1][P]", "e = b[:2].sum(0)",
]  # fmt: skip
MODES = ["clip", "drop", "promise_in_bounds", "fill"]
# The initial buffer: zeros, constants, or a value that depends on an operand.
BUFFERS = [
    "jnp.zeros((R, 4))",
    "jnp.zeros((R, 4))",
    "jnp.ones((R, 4)) * $0",
    "jnp.full((R, 4), 0.5)",
    "jnp.outer(jnp.arange(R) + 1.0, $0)",
]

# What is computed after the loop from its state `s`, buffer `b` and stacked results `ys`.
AFTER = [
    "s + (b * b).sum(0)",
    "b.sum(0)",
    "s",
    "b[0] + b[-1] * s",
    "s + ys.sum(0)",
    "s * ys[0] + b.sum(0)",
    "(b * jnp.arange(R)[:, None]).sum(0)",
]

SCAN = [
    "def $out_step(carry, r):",
    "    b, i, s = carry",
    "    e = 0.1",
    "READ",
    "    s = $f0(s, e + r)",
    "WRITE",
    "AGAIN",
    "    return (b, STEP, s), e * s",
    "(b, i, s), ys = lax.scan($out_step, (BUFFER, T(START), $0), XS, length=LENGTH, reverse=REVERSE)",
    "$out = AFTER",
]
SCAN_WITHOUT_COUNTER = [
    "def $out_step(carry, i):",
    "    b, s = carry",
    "    e = 0.1",
    "READ",
    "    s = $f0(s, e + $1)",
    "WRITE",
    "AGAIN",
    "    return (b, s), e * s",
    "(b, s), ys = d.scan($out_step, (BUFFER, $0), jnp.arange(LENGTH, dtype=T) + T(START), reverse=REVERSE)",
    "$out = AFTER",
]
FORI = [
    "def $out_step(i, carry):",
    "    b, s = carry",
    "    e = 0.1",
    "READ",
    "    s = $f0(s, e + $1)",
    "WRITE",
    "AGAIN",
    "    return b, s",
    "b, s = lax.fori_loop(FIRST, LAST, $out_step, (BUFFER, $0))",
    "ys = s[None]",
    "$out = AFTER",
]
WHILE = [
    "def $out_step(carry):",
    "    b, i, j, s = carry",
    "    e = 0.1",
    "READ",
    "    s = $f0(s, e + $1)",
    "WRITE",
    "AGAIN",
    "    return b, STEP, j + 1, s",
    "b, i, j, s = d.while_loop(lambda c: (c[2] < LIMIT) & (c[3][0] < 3.0), $out_step, (BUFFER, T(START), 0, $0))",
    "ys = s[None]",
    "$out = AFTER",
]
BUFFERED = {"scan": SCAN, "scan over places": SCAN_WITHOUT_COUNTER, "fori_loop": FORI, "while_loop": WHILE}

# Loops without buffers: template, kinds of operands, kind of result, blocks.
PLAIN = [
    ("$out = lax.scan(lambda c, r: ($f0(c, r), None), $0, $1, reverse={False|True})[0]", "vm", "v", ("vv>v",)),
    ("$out = lax.scan(lambda c, r: ($f0(c, r), c * r), $0, $1)[1].sum(0)", "vm", "v", ("vv>v",)),
    ("$out = d.scan(lambda c, r: ($f0(c, r), jnp.sin(c)), $0, $1, unroll={1|2})[1]", "vm", "m", ("vv>v",)),
    ("$out = d.scan(lambda c, r: ($f0(c, r), None), $0, $1, policy='{two_levels|revolve|optimal}')[0]", "vm", "v", ("vv>v",)),
    ("$out = lax.scan(lambda c, _: ($f0(c, $1), None), $0, None, length={1|2|5|9|17})[0]", "vv", "v", ("vv>v",)),
    ("$out = sum(lax.scan(lambda c, r: ($f0(*c, r), None), ($0, $1), $2)[0])", "vvm", "v", ("vvv>vv",)),
    ("$out = lax.scan(lambda c, r: ((c[1], $f0(c[0], r)), c[0]), ($0, $1), $2)[1].sum(0)", "vvm", "v", ("vv>v",)),
    ("$out = lax.fori_loop(0, {0|1|3|6}, lambda i, c: $f0(c, $1 * i), $0)", "vv", "v", ("vv>v",)),
    (
        "$out = d.while_loop(lambda c: (c[0] < {0|1|4|$2 % 5}), lambda c: (c[0] + 1, $f0(c[1], $1)), (0, $0))[1]",
        "vvi", "v", ("vv>v",),
    ),
    ("$out = d.while_loop(lambda c: (c[1].sum() < 4) & (c[0] < 6), lambda c: (c[0] + 1, $f0(c[1], $1)), (0, $0))[1]", "vv", "v", ("vv>v",)),
    ("$out = lax.scan(lambda k, r: (jax.random.split(k)[0], jax.random.normal(k, (4,)) * $f0(r)), $1, $0)[1].sum(0)", "mk", "v", ("v>v",)),
    ("$out = lax.scan(lambda c, r: (lax.cond(c[0] > r[0], $f0, $f1, c, r), c), $0, $1)[1]", "vm", "m", ("vv>v", "vv>v")),
    ("$out = lax.map(lambda r: $f0(r) * $1, $0)", "mv", "m", ("v>v",)),
    ("$out = lax.scan(lambda c, i: ($f0(c, $1[i]), None), $0, jnp.array([0, 3, 3, {1|5|-1}]))[0]", "vm", "v", ("vv>v",)),
    ("$out = lax.cond($0[0] > $1[0], lambda a: lax.scan(lambda c, _: ($f0(c, a), None), a, None, length=3)[0], $f1, $0)", "vv", "v", ("vv>v", "v>v")),
]  # fmt: skip
