"""Plain text of a Graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.graph.atoms import Atom, Constant, Variable

if TYPE_CHECKING:
    from ckptgrad.graph.graph import Graph


def format_graph(graph: Graph) -> str:
    """One line an operation: outputs, primitive, inputs, and the user's line."""
    names: dict[Variable, str] = {}

    def name(atom: Atom) -> str:
        if isinstance(atom, Constant):
            return str(atom.value)
        return names.setdefault(atom, f"v{len(names)}")

    def typed(v: Variable) -> str:
        return f"{name(v)}: {v.aval.str_short()}"

    lines = [f"inputs     {', '.join(typed(v) for v in graph.inputs)}"]
    if graph.constants:
        lines.append(f"constants  {', '.join(typed(v) for v in graph.constants)}")
    body = [
        (
            f"  {', '.join(typed(v) for v in op.outputs)} = {op.name}({', '.join(name(a) for a in op.inputs)})",
            op.source,
        )
        for op in graph.operations
    ]
    width = max((len(text) for text, _ in body), default=0)
    for text, source in body:
        lines.append(text if source is None else f"{text:<{width}}  # {source}")
    lines.append(f"outputs    {', '.join(name(a) for a in graph.outputs)}")
    return "\n".join(lines)
