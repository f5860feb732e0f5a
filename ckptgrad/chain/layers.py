"""What users call the layer that a stage belongs to.

A layer is a path: the named scopes in which most of the stage's bytes are made ("GPT/Block_3/attn": JAX's, and those that
Flax opens around its modules), or, of models that open none, what the parameters that it reads have in common
("model.blocks[3]").
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from ckptgrad.graph.atoms import aval_bytes
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.source import scope_of

# A component of a leaf's name as JAX writes it: ['w'], [3], .weight.
_COMPONENT = re.compile(r"\['([^']*)'\]|\[(\d+)\]|\.([A-Za-z_]\w*)")
# What containers of libraries add to the path of a leaf, which no user wrote.
_WRAPPERS = frozenset({"params", "value", "raw_value", "get_value"})

# A layer that has less than this share of a stage is not named among its layers.
LITTLE = 0.05


def layer_of(operations: Sequence[Operation], names: Mapping[Variable, str]) -> str:
    """The layer of a run of operations; empty where nothing names it.

    Args:
        operations: of one stage.
        names: those of the parameters that are read, as JAX writes the paths of leaves.
    """
    scoped = [(_scopes(op), sum(aval_bytes(v.aval) for v in op.outputs)) for op in operations]
    named = [(path, weight) for path, weight in scoped if path]
    path = _shared(named)
    if path and 2 * sum(weight for own, weight in scoped if own) >= sum(weight for _, weight in scoped):
        return "/".join(path) if len(path) > 1 else _from_to(named, "/".join) or "/".join(path)
    read = {v: names[v] for op in operations for v in variables_of(op.inputs) if v in names}
    modules = [(_module(name), aval_bytes(v.aval)) for v, name in read.items()]
    common = [column[0] for column in itertools.takewhile(_is_one, zip(*(path for path, _ in modules), strict=False))]
    found = common if len(common) > 1 else _shared(modules)
    return _as_written(found) if len(found) > 1 else _from_to(modules, _as_written)


def _from_to(paths: Sequence[tuple[tuple[str, ...], int]], written: Callable[[Sequence[str]], str]) -> str:
    """Of a stage of several layers the first and the last one; those of little weight left out."""
    weights: dict[tuple[str, ...], int] = {}
    for path, weight in paths:
        layer = path[:3] if path[2:3] and path[2].isdigit() else path[:2]
        if len(layer) > 1:
            weights[layer] = weights.get(layer, 0) + weight
    layers = [written(layer) for layer, weight in weights.items() if weight >= LITTLE * sum(weights.values())]
    return " .. ".join(dict.fromkeys([layers[0], layers[-1]])) if layers else ""


def _is_one(column: Sequence[str]) -> bool:
    return len({*column}) == 1


def named_values(operations: Iterable[Operation], names: Mapping[Variable, str]) -> dict[Variable, str]:
    """Names of parameters, and of what is made of one parameter alone, as a cast or a slice is."""
    named = dict(names)
    for op in operations:
        read = [*dict.fromkeys(variables_of(op.inputs))]
        name = named.get(read[0]) if len(read) == 1 else None
        if name is not None:
            named.update(dict.fromkeys(op.outputs, name))
    return named


def ranged(layers: Sequence[str]) -> str:
    """Layers that differ in one number, as one; stages that nothing names are passed over.

    Example:
        >>> ranged(["GPT/Block_0/attn", "GPT/Block_1/attn", "GPT/Block_3/attn"])
        'GPT/Block_{0..3}/attn'
        >>> ranged(["encoder", "decoder"])
        'encoder .. decoder'
    """
    layers = [layer for layer in dict.fromkeys(layers) if layer] or [""]
    if len(layers) == 1:
        return layers[0]
    parts = [re.split(r"(\d+)", layer) for layer in layers]
    if len({len(p) for p in parts}) == 1:
        columns = [list(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
        different = [k for k, column in enumerate(columns) if len(column) > 1]
        if len(different) == 1 and different[0] % 2:
            numbers = sorted(map(int, columns[different[0]]))
            columns[different[0]] = [f"{{{numbers[0]}..{numbers[-1]}}}"]
            return "".join(column[0] for column in columns)
    return f"{layers[0]} .. {layers[-1]}"


def _scopes(op: Operation) -> tuple[str, ...]:
    stack = getattr(op.source_info, "name_stack", None)
    return tuple(filter(None, scope_of(str(stack)).split("/"))) if stack is not None else ()


def _shared(paths: Sequence[tuple[tuple[str, ...], int]]) -> tuple[str, ...]:
    """The longest path in which more than half of the weight lies."""
    whole, shared = sum(weight for _, weight in paths), tuple[str, ...]()
    while True:
        weights: dict[tuple[str, ...], int] = defaultdict(int)
        for path, weight in paths:
            if len(path) > len(shared) and path[: len(shared)] == shared:
                weights[path[: len(shared) + 1]] += weight
        longer = max(weights, key=weights.__getitem__, default=None)
        if longer is None or 2 * weights[longer] <= whole:
            return shared
        shared = longer


def _module(name: str) -> tuple[str, ...]:
    """The path of what a leaf is a part of: the argument's name and the keys, without the last one if it is a name."""
    found = list(_COMPONENT.finditer(name))
    keys = [next(filter(None, match.groups()), "") for match in found]
    argument = name[: found[0].start()] if found else name
    path = [argument, *(key for key in keys if key and key not in _WRAPPERS)]
    return tuple(path if path[-1].isdigit() else path[:-1])


def _as_written(path: Sequence[str]) -> str:
    """A path as Python code would have it; nothing for an argument alone, which is no layer."""
    if len(path) < 2:
        return ""
    return path[0] + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path[1:])
