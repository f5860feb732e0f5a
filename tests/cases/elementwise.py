"""Rows of elementwise functions, real and complex."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from tests.cases import ROUNDED_AS_WE_DO, Case, binary, complex_, unary

INF, NAN = np.inf, np.nan

BOUNDS = [(-1, -0.9), (-2, 2), (0.9, 1)]
ARITHMETIC = [
    unary("neg", lax.neg),
    binary("add", lax.add),
    binary("sub", lax.sub),
    binary("mul", lax.mul),
    binary("div", lax.div),
    binary("rem", lax.rem, domain=[(-7, 7), (1.1, 1.9)]),
    binary("max", lax.max),
    binary("min", lax.min),
    binary("pow", lax.pow, domain=(0.3, 2)),
    binary("atan2", lax.atan2),
    binary("nextafter", lax.nextafter, special=(), in_jax=False, bfloat16=False),
    unary("square", lax.square),
    unary("sqrt", lax.sqrt, domain=(0.2, 3)),
    unary("rsqrt", lax.rsqrt, domain=(0.2, 3)),
    unary("cbrt", lax.cbrt, domain=(0.2, 3)),
    unary("abs", lax.abs),
    unary("integer_pow", lambda x: lax.integer_pow(x, 3)),
    Case("integer_pow 0", lambda x: x * lax.integer_pow(x, 0), [(3,)], ["integer_pow"]),
    Case("integer_pow 1", lambda x: x * p.integer_pow_p.bind(x, y=1), [(3,)], ["integer_pow"]),
    Case("integer_pow 2", lambda x: lax.integer_pow(x, 2), [(3,)], ["integer_pow"]),
    Case("integer_pow -2", lambda x: lax.integer_pow(x, -2), [(3,)], ["integer_pow"], domain=(0.5, 2)),
    Case("pow integer", lambda x: lax.pow(x, np.int32([0, 1, 2, -3])), [(4,)], ["pow"], domain=(0.5, 2)),
    Case("pow integer at 0", lambda x: lax.pow(x, np.int32([0, 1, 2, 3])), [np.zeros(4)], ["pow"], check=False),
    Case("pow integer scalar", lambda x: lax.pow(x, jnp.int32(3)), [(4,)], ["pow"], domain=(0.5, 2)),
    Case("pow scalar base", lambda y: jnp.power(2.0, y), [(4,)], ["pow"]),
    Case("scalar mul", lambda x, s: x * s, [(3, 4), ()], ["mul"]),
    Case("scalar add", lambda x, s: (x + s, s - x), [(3, 4), ()], ["add", "sub"]),
    Case("scalar div", lambda x, s: (x / s, s / x), [(3, 4), ()], ["div"], domain=(0.5, 2)),
    Case("scalar max", lambda x, s: jnp.maximum(x, s), [(3, 4), ()], ["max"]),
    Case("scalar literals", lambda x: 2.0 * jnp.maximum(x, 0.0) - 1.0 / (3.0 + x**2), [(3, 4)], ["max", "div"]),
    Case(
        "mul out_dtype",
        lambda x, y: p.mul_p.bind(x, y, out_dtype=np.float32),
        [(3,), (3,)],
        ["mul"],
        check=False,
    ),
    Case("clamp", lax.clamp, [(3, 4)] * 3, ["clamp"], domain=BOUNDS, special=(-1.0, 0, 1, INF, NAN)),
    Case("clamp scalar", lambda x: lax.clamp(-1.0, x, 1.0), [(3, 4)], ["clamp"], bfloat16=False),
    Case("clamp scalar bounds", lax.clamp, [(), (3, 4), ()], ["clamp"], domain=BOUNDS, in_jax=False),
    Case("select_n", lambda x, y: lax.select_n(x > y, x * y, y), [(3, 4), (3, 4)], ["select_n"]),
    Case("select_n scalar", lambda x, y: lax.select_n(x[0] > y[0], x * y, y), [(3,), (3,)], ["select_n"]),
    Case(
        "select_n three",
        lambda x, y, z: lax.select_n(np.int32([0, 1, 2, 1]), x, y, z),
        [(4,)] * 3,
        ["select_n"],
    ),
    Case("fan out", lambda x: (x * x, x + x, jnp.sin(x) * x), [(3,)], ["mul", "add", "sin"]),
    Case("add_any", p.add_jaxvals_p.bind, [(3,), (3,)], ["add_any"]),
]

# Of primitives that the oldest supported JAX does not have.
NEWER = [
    unary("log2", lambda x: lax.log2(x), domain=(0.2, 3)),
    unary("one_minus_square", lambda x: lax.one_minus_square(x)),
    Case("polynomial", lambda x, a, b: lax.polynomial(x, [a, b, 2.0, a]), [(2, 3), (2, 1), ()], ["polynomial"], exact=False),
    Case("polynomial of degree 1", lambda x, a: lax.polynomial(x, [a, a]), [(3,), (3,)], ["polynomial"]),
]

TRANSCENDENTAL = [
    unary("exp", lax.exp),
    unary("exp2", lax.exp2),
    unary("expm1", lax.expm1, exact=ROUNDED_AS_WE_DO),
    unary("log", lax.log, domain=(0.2, 3)),
    unary("log1p", lax.log1p, domain=(-0.5, 3)),
    unary("logistic", lax.logistic, special=(0, 1000, -1000, INF, -INF, NAN)),
    unary("sin", lax.sin),
    unary("cos", lax.cos),
    unary("tan", lax.tan, domain=(-1, 1)),
    unary("asin", lax.asin, domain=(-0.8, 0.8), exact=ROUNDED_AS_WE_DO),
    unary("acos", lax.acos, domain=(-0.8, 0.8)),
    unary("atan", lax.atan),
    unary("sinh", lax.sinh),
    unary("cosh", lax.cosh),
    unary("tanh", lax.tanh, special=(0, 1000, -1000, INF, -INF, NAN), exact=ROUNDED_AS_WE_DO),
    unary("asinh", lax.asinh),
    unary("acosh", lax.acosh, domain=(1.5, 3)),
    unary("atanh", lax.atanh, domain=(-0.8, 0.8), exact=ROUNDED_AS_WE_DO),
]

SPECIAL = [
    unary("erf", lax.erf, exact=ROUNDED_AS_WE_DO),
    unary("erfc", lax.erfc, exact=ROUNDED_AS_WE_DO),
    unary("erf_inv", lax.erf_inv, domain=(-0.8, 0.8)),
    unary("lgamma", lax.lgamma, domain=(0.3, 4)),
    unary("digamma", lax.digamma, domain=(0.3, 4), exact=False),
    Case("polygamma", lambda x: lax.polygamma(lax.full_like(x, 2), x), [(3,)], ["polygamma"], domain=(0.5, 4)),
    Case("igamma", lax.igamma, [(3,), (3,)], ["igamma"], domain=(0.5, 3), order=1, bfloat16=False, slow=True),
    Case("igammac", lax.igammac, [(3,), (3,)], ["igammac"], domain=(0.5, 3), order=1, bfloat16=False, slow=True),
    Case(
        "betainc",
        lambda x: lax.betainc(lax.full_like(x, 1.5), lax.full_like(x, 2.5), x),
        [(3,)],
        ["regularized_incomplete_beta"],
        domain=(0.2, 0.8),
        bfloat16=False,
    ),
    Case(
        "zeta", lambda q: lax.zeta(lax.full_like(q, 2.5), q), [(3,)], ["zeta"], domain=(0.5, 3), bfloat16=False, in_jax=False
    ),
    Case(
        "random_gamma",
        lambda a: jax.random.gamma(jax.random.key(0), a),
        [(3,)],
        ["random_gamma"],
        domain=(0.5, 3),
        order=1,
        bfloat16=False,
        check=False,
        exact=False,
    ),
    Case(
        "random_gamma log",
        lambda a: jax.random.loggamma(jax.random.key(0), a),
        [(3,)],
        ["random_gamma"],
        domain=(0.5, 3),
        order=1,
        bfloat16=False,
        check=False,
        exact=False,
    ),
    unary("bessel_i0e", lax.bessel_i0e),
    unary("bessel_i1e", lax.bessel_i1e, special=(0, -0.0, 1, NAN)),
]

COMPLEX = [
    *(
        complex_(unary(name, fun, domain=domain), exact=name != "tanh" or ROUNDED_AS_WE_DO)
        for name, fun, domain in [
            ("exp", lax.exp, (-1, 1)),
            ("log", lax.log, (0.3, 2)),
            ("sin", lax.sin, (-1, 1)),
            ("cos", lax.cos, (-1, 1)),
            ("tanh", lax.tanh, (-0.5, 0.5)),
            ("logistic", lax.logistic, (-0.5, 0.5)),
            ("sqrt", lax.sqrt, (0.3, 2)),
            ("square", lax.square, (-1, 1)),
            ("abs", lax.abs, (0.3, 1)),
        ]
    ),
    complex_(binary("mul", lax.mul)),
    complex_(binary("div", lax.div, domain=(0.5, 1.5))),
    complex_(binary("pow", lax.pow, domain=(0.5, 1.5))),
    Case(
        "real imag",
        lambda z: (lax.real(z), lax.imag(z)),
        [(3,)],
        ["real", "imag"],
        complex=True,
        bfloat16=False,
    ),
    Case("conj", lambda z: lax.conj(z) * z, [(3,)], ["conj"], complex=True, bfloat16=False),
    Case("conj of real", lambda x: p.conj_p.bind(x, input_dtype=x.dtype), [(3,)], ["conj"], bfloat16=False),
    Case("complex", lambda x, y: lax.exp(lax.complex(x, y)), [(3,), (3,)], ["complex"], bfloat16=False),
    Case("complex matrix", lambda x, y: x @ y, [(2, 3), (3, 2)], ["dot_general"], complex=True, bfloat16=False),
    Case(
        "real to complex",
        lambda x: x.astype(jnp.complex64) ** 2,
        [(3,)],
        ["convert_element_type"],
        check=False,
        bfloat16=False,
    ),
]
