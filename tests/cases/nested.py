"""Functions of five numbers with custom rules, control flow and checkpoints of the user's inside."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

V = jnp.array([-1.5, -0.2, 0.0, 0.7, 2.0])
W = jnp.array([[0.3, -0.8], [0.5, 0.1]])


@jax.custom_vjp
def clipped(x, w):
    return jnp.sin(x) * w


clipped.defvjp(lambda x, w: (jnp.sin(x) * w, (x, w)), lambda r, g: (jnp.clip(g * r[0], -1, 1), jnp.sum(g * r[0])))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def apply_times(f, x, times):
    return f(x) * times


apply_times.defvjp(lambda f, x, times: (f(x) * times, x), lambda f, times, x, g: (g * f(x) * (times + 1),))


@jax.custom_vjp
def pick(x, i):
    return x[i]


pick.defvjp(
    lambda x, i: (x[i], (x, i)),
    lambda r, g: (jnp.zeros_like(r[0]).at[r[1]].set(3 * g), np.zeros(r[1].shape, jax.dtypes.float0)),
)


@jax.custom_vjp
def without(x, y):
    return x * y, x + y


without.defvjp(lambda x, y: (without(x, y), y), lambda y, g: (g[0] * y, None))


@jax.custom_jvp
def damped(x, y):
    return x * y


damped.defjvp(lambda p, t: (damped(*p), 0.5 * p[1] * t[0] + jnp.cos(p[0]) * t[1]))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


power.defjvp(lambda n, p, t: (power(p[0], n), 7.0 * t[0]))


def custom_in_loop(x):
    return lax.fori_loop(0, 3, lambda i, c: jax.nn.relu(c - 0.1) + clipped(c, 2.0), x).sum()


CUSTOM = {
    "relu at zero": lambda x: jax.nn.relu(x).sum(),
    "softplus": lambda x: jax.nn.softplus(x).sum(),
    "silu": lambda x: jax.nn.silu(x * 2).sum(),
    "gelu": lambda x: jax.nn.gelu(x).sum(),
    "logsumexp": lambda x: jax.nn.logsumexp(x * x),
    "softmax": lambda x: jax.nn.softmax(x)[1],
    "log_softmax": lambda x: jax.nn.log_softmax(x)[1],
    "logaddexp": lambda x: jnp.logaddexp(x, x * x).sum(),
    "where": lambda x: jnp.where(x > 0, x, jnp.sin(x)).sum(),
    "sinc": lambda x: jnp.sinc(x).sum(),
    "custom_jvp": lambda x: damped(x, x * x).sum(),
    "custom_jvp with nondiff": lambda x: power(x, 3).sum(),
    "custom_vjp": lambda x: clipped(x, x[0]).sum(),
    "custom_vjp of two scalars": lambda x: clipped(2.0, x[1]) + x[0],
    "custom_vjp with nondiff": lambda x: apply_times(jnp.cos, x, 4).sum(),
    "custom_vjp with integers": lambda x: pick(x, jnp.array([0, 3])).sum(),
    "custom_vjp with None": lambda x: without(x, jnp.sin(x))[0].sum(),
    "custom_vjp of which one output is used": lambda x: without(x, x * x)[1].sum() + x.sum(),
    "custom rules in a loop": custom_in_loop,
}

LOOPS = {
    "cond true": lambda x: lax.cond(x[0] < 0, lambda v: jnp.sin(v) * v, jnp.cos, x).sum(),
    "cond false": lambda x: lax.cond(x[0] > 0, lambda v: jnp.sin(v) * v, jnp.cos, x).sum(),
    "cond of which a branch is constant": lambda x: lax.cond(x[0] > 0, lambda v: v * 2, lambda v: V, x).sum(),
    "cond that closes over": lambda x: lax.cond(x[0] < 0, lambda: x * x, lambda: x * 3).sum(),
    "cond with integers": lambda x: lax.cond(x[0] < 0, lambda v: (v * v, 1), lambda v: (v, 2), x)[0].sum(),
    "switch": lambda x: lax.switch(1, [jnp.sin, jnp.tanh, jnp.exp], x).sum(),
    "switch on data": lambda x: lax.switch(jnp.argmax(x), [jnp.sin] * 3 + [jnp.cos, jnp.exp], x).sum(),
    "scan carry": lambda x: lax.scan(lambda c, _: (jnp.sin(c) * c, None), x, None, length=4)[0].sum(),
    "scan xs": lambda x: lax.scan(lambda c, v: (c + v * v, None), 0.0, x)[0],
    "scan ys": lambda x: lax.scan(lambda c, v: (c * 1.1, jnp.sin(v) * c), 1.0, x)[1].sum(),
    "scan carry, xs, ys": lambda x: sum(jnp.sum(o) for o in lax.scan(lambda c, v: (jnp.tanh(c * v + v), c * v), x[0], x)),
    "scan reverse": lambda x: (lax.scan(lambda c, v: (c * v + 1, c), 2.0, x, reverse=True)[1] * jnp.arange(5.0)).sum(),
    "scan unrolled": lambda x: lax.scan(lambda c, v: (jnp.sin(c + v), c), 0.3, x, unroll=2)[1].sum(),
    "scan with an integer carry": lambda x: lax.scan(lambda c, v: ((c[0] + 1, c[1] * v + c[0]), c[0]), (0, 1.0), x)[0][1],
    "scan with integers stacked": lambda x: lax.scan(lambda c, v: (c + v[0] * v[1], v[0]), 0.0, (jnp.arange(5), x))[0],
    "scan with constants": lambda x: lax.scan(lambda c, _: (jnp.tanh(W @ c * x[1]), c), x[:2], None, length=3)[1].sum(),
    "scan whose carry turns active": lambda x: lax.scan(lambda c, v: ((c[0] + c[1] * v, c[0]), None), (0.5, 0.25), x)[0][1],
    "scan of length 0": lambda x: sum(jnp.sum(o) for o in lax.scan(lambda c, v: (c * v, c + v), x[0], x[:0])),
    "scan of length 1": lambda x: lax.scan(lambda c, v: (c * v, c + v), x[0], x[1:2])[1].sum(),
    "scan with one carry passed through": lambda x: lax.scan(lambda c, v: ((c[0], c[1] * c[0] + v), None), (x[4], 1.0), x)[
        0
    ][1],
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + i, x).sum(),
    "scan in cond": lambda x: lax.cond(x[0] < 0, lambda v: lax.scan(lambda c, w: (c * w, c), 1.5, v)[1].sum(), jnp.sum, x),
    "cond in scan": lambda x: lax.scan(
        lambda c, v: (lax.cond(v > 0, lambda a: jnp.sin(a) * v, lambda a: a + v * v, c), c), 0.4, x
    )[0],
    "scan in scan": lambda x: lax.scan(
        lambda c, v: (lax.scan(lambda d, _: (jnp.sin(d * v), None), c, None, length=3)[0], c), 0.4, x
    )[1].sum(),
    "map": lambda x: lax.map(lambda v: jnp.exp(v) * x[3], x).sum(),
    "while without a derivative": lambda x: (x * lax.while_loop(lambda i: i < 5, lambda i: i + 2, jnp.int32(0))).sum(),
    "checkpoint": lambda x: jax.checkpoint(lambda v: jnp.sin(jnp.sin(v)))(x).sum(),
    "checkpoint with a policy": lambda x: jax.checkpoint(
        lambda v: jnp.sin(jnp.sin(v)), policy=jax.checkpoint_policies.nothing_saveable
    )(x).sum(),
    "checkpoint in scan": lambda x: lax.scan(jax.checkpoint(lambda c, v: (jnp.sin(c * v), jnp.cos(c))), 0.3, x)[1].sum(),
    "scan in checkpoint": lambda x: jax.checkpoint(
        lambda y: lax.scan(lambda c, v: (jnp.sin(c * v), jnp.cos(c)), 0.3, y)[1].sum()
    )(x),
    "stop_gradient": lambda x: (lax.stop_gradient(jnp.sin(x)) * x).sum(),
}

ALL = CUSTOM | LOOPS
