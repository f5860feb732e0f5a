"""Joint graphs of small functions."""

from __future__ import annotations

import ckptgrad as cg
from ckptgrad.stage.joint import joint


def joint_of(fun, *args, seeds=None, planned=False):
    """The joint graph of a function towards all its arguments.

    `seeds`: the positions of the outputs with a cotangent; None: all.  `planned`: whether loops are left open.
    """
    graph = cg.trace(fun, *args)
    return joint(graph, graph.inputs, graph.outputs if seeds is None else [graph.outputs[k] for k in seeds], planned)
