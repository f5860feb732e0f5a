"""Joint graphs of small functions."""

from __future__ import annotations

import ckptgrad as cg
from ckptgrad.stage.joint import joint


def joint_of(fun, *args, seeds=None):
    """The joint graph of a function towards all its arguments; `seeds` are the positions of outputs with a cotangent."""
    graph = cg.trace(fun, *args)
    return joint(graph, graph.inputs, graph.outputs if seeds is None else [graph.outputs[k] for k in seeds])
