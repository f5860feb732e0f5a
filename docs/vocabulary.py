"""The picture of README: `python docs/vocabulary.py docs/vocabulary.png`.

The plan of a small chain, drawn by `Plan.plot`, with the words of this project beside what they name.
"""

import sys

import jax
import jax.numpy as jnp

import ckptgrad as cg


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    """A chain of equal layers."""
    for w in weights:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


plan = cg.plan(loss, [jnp.eye(64)] * 8, jnp.ones((2048, 64)), policy="revolve", budget="0.45x")
figure = plan.plot()
(axes,) = figure.axes
marks = {line.get_label(): line.get_xydata() for line in axes.lines}
(held,) = (lines.get_segments() for lines in axes.collections if lines.get_label() == "boundary held")
longest = max((ends for ends in held if ends[0][1] > 2), key=lambda ends: ends[1][0] - ends[0][0])

for words, point, place in (
    ("boundary: what a stage reads,\nheld until its backward has run", longest[1], (17.0, 4.9)),
    (
        "recomputed: runs again,\nfrom a held boundary",
        next(p for p in marks["repeated forward"] if p[1] == 2),
        (4.6, 2.0),
    ),
    ("kept for backward: what a forward\nleaves for the backward of its stage", marks["residuals kept"][0], (11.0, 7.2)),
):
    arrow = {"arrowstyle": "->", "linewidth": 0.8}
    axes.annotate(words, point, place, arrowprops=arrow, fontsize="small", va="center")
figure.savefig(sys.argv[1])
