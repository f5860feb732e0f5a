"""A model as a user writes it, in a module of their own, and how the command line is told of it."""

from __future__ import annotations

MODEL = """
import jax.numpy as jnp

width = 8

def loss(weights, x):
    for w in weights:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)

def with_aux(weights, x):
    value = loss(weights, x)
    return value, {"value": value}

def vector(weights, x):
    return x

example_args = ([0.1 * jnp.eye(width)] * 6, jnp.ones((64, width)))

def make_args():
    return example_args

def breaks():
    raise RuntimeError("no data here")
"""
TARGET = ["climodel:loss", "climodel:example_args"]
