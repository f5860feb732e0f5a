"""Custom rules in programs: definitions, and calls that differ in what an engine might forget to compare.

Most rules give a derivative that is not their function's: what matters is that each call gets its own.
"""

from __future__ import annotations

# Static arguments that look alike and must not be confused.
TAGS = [
    ["1", "1.0", "True", "np.int32(1)", "np.float32(1)", "'1'"],
    ["0", "0.0", "-0.0", "False", "None", "()"],
    ["2", "3", "2.5"],
    ["'sum'", "'mean'", "'max'"],
    ["jnp.float32", "jnp.float64", "np.dtype('float32')", "'float32'"],
    ["math.sin", "math.cos", "math.exp"],
    ["partial(pow, 2.0)", "partial(pow, 3.0)", "partial(math.atan2, 2.0)"],
    ["scaled_by(2.0)", "scaled_by(3.0)", "(lambda a: 2 * a)", "(lambda a: 3 * a)"],
    ["(1, 2)", "(1.0, 2.0)", "(2, 1)", "(True, 2)", "((1,), 2)"],
]

# `$t` is a static argument, `$n` the number of the definition. Each rule takes `(tag, x)`, with a vector x.
TAGGED = {
    "backward only": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return jnp.sin(x)
rule$n.defvjp(lambda tag, x: (jnp.sin(x), x), lambda tag, r, g: (amount(tag) * g * jnp.cos(r),))
""",
    "backward without residuals": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return x * 1.0
rule$n.defvjp(lambda tag, x: (x * 1.0, None), lambda tag, r, g: (-amount(tag) * g,))
""",
    "forward only": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return amount(tag) * jnp.tanh(x)
rule$n.defvjp(lambda tag, x: (rule$n(tag, x), x), lambda tag, r, g: (0.7 * g * r,))
""",
    "forward under differentiation": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return jnp.tanh(x)
rule$n.defvjp(lambda tag, x: (jnp.tanh(x) * amount(tag), x), lambda tag, r, g: (0.7 * g * r,))
""",
    "residuals": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return jnp.cos(x)
rule$n.defvjp(lambda tag, x: (jnp.cos(x), (amount(tag) * x, x)), lambda tag, r, g: (g * (r[0] - r[1]),))
""",
    "residuals that are static": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return jnp.cos(x)
rule$n.defvjp(lambda tag, x: (jnp.cos(x), amount(tag)), lambda tag, r, g: (g * r,))
""",
    "custom_jvp": """
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def rule$n(tag, x): return jnp.sin(x) + x
rule$n.defjvp(lambda tag, xs, ts: (rule$n(tag, xs[0]), amount(tag) * ts[0] * xs[0]))
""",
    "custom_jvp, value": """
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def rule$n(tag, x): return amount(tag) * jnp.sin(x)
rule$n.defjvp(lambda tag, xs, ts: (jnp.sin(xs[0]) * amount(tag), 0.4 * ts[0] * xs[0]))
""",
    "an array closed over": """
def make$n(array):
    @jax.custom_vjp
    def inner(x): return jnp.tanh(x)
    inner.defvjp(lambda x: (jnp.tanh(x), x), lambda r, g: (g * array * r,))
    return inner
def rule$n(tag, x): return make$n(amount(tag) * np.ones(4))(x)
""",
    "a number closed over": """
def make$n(number):
    @jax.custom_vjp
    def inner(x): return jnp.tanh(x)
    inner.defvjp(lambda x: (jnp.tanh(x), x), lambda r, g: (g * number * r,))
    return inner
def rule$n(tag, x): return make$n(amount(tag))(x)
""",
    "custom_jvp, a number closed over": """
def make$n(number):
    @jax.custom_jvp
    def inner(x): return jnp.tanh(x)
    inner.defjvp(lambda xs, ts: (inner(xs[0]), ts[0] * number))
    return inner
def rule$n(tag, x): return make$n(amount(tag))(x)
""",
    "nested": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def inner$n(tag, x): return jnp.sin(x)
inner$n.defvjp(lambda tag, x: (jnp.sin(x), x), lambda tag, r, g: (amount(tag) * g * r,))
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rule$n(tag, x): return inner$n(tag, x) * x
rule$n.defvjp(lambda tag, x: (inner$n(tag, x) * x, x), lambda tag, r, g: (g * inner$n(tag, r),))
""",
    "static after": """
@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def tagged$n(x, tag, other): return jnp.sin(x)
tagged$n.defvjp(lambda x, tag, other: (jnp.sin(x), x), lambda tag, other, r, g: (g * (amount(tag) + r * amount(other)),))
def rule$n(tag, x): return tagged$n(x, tag, {'a'|2|tag})
""",
    "symbolic zeros": """
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def pair$n(tag, x, z): return x * z
def pair_rule$n(tag, xs, ts):
    moved = sum((k + amount(tag)) * t for k, t in enumerate(ts) if type(t).__name__ != "SymbolicZero")
    return pair$n(tag, *xs), moved
pair$n.defjvp(pair_rule$n, symbolic_zeros=True)
def rule$n(tag, x): return pair$n(tag, x, {2.0 * np.ones(4)|x|lax.stop_gradient(x)})
""",
    "an integer argument": """
@jax.custom_vjp
def counted$n(x, k): return x * k
counted$n.defvjp(lambda x, k: (x * k, k), lambda r, g: (g * (r + 1), None))
def rule$n(tag, x): return counted$n(x, {2|np.int32(3)|int(amount(tag) * 4)})
""",
    "jit around": """
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def tagged$n(tag, x): return jnp.sin(x)
tagged$n.defvjp(lambda tag, x: (jnp.sin(x), x), lambda tag, r, g: (amount(tag) * g * r,))
def rule$n(tag, x): return jax.jit(lambda a: tagged$n(tag, a))(x)
""",
}

# The calls of a definition.
CALLS = [
    "rule$n($t, $0)",
    "rule$n($t, $0) + 0.5 * rule$n($t, $0)",
    "rule$n($t, rule$n($t, $0))",
    "d.stage(lambda a: rule$n($t, a))($0)",
    "d.stage(lambda a: rule$n($t, a))($0) - d.stage(lambda a: rule$n($t, a))($0)",
    "lax.scan(lambda c, _: (rule$n($t, c) + 0.1, None), $0, None, length={2|3|5})[0]",
    "lax.scan(lambda c, _: (rule$n($t, c) * rule$n($t, c), None), $0, None, length={2|3})[0]",
    "lax.fori_loop(0, {2|3}, lambda _, c: rule$n($t, c), $0)",
    "lax.cond($0[0] > 0.2, lambda a: rule$n($t, a), lambda a: rule$n($t, a), $0)",
    "jax.checkpoint(lambda a: rule$n($t, a))($0)",
    "d.checkpoint(lambda a: rule$n($t, a))($0)",
    "jax.vmap(lambda a: rule$n($t, a), in_axes=1)(jnp.outer($0, $0)).sum(0)",
    "jax.jit(partial(rule$n, $t))($0)",
]
