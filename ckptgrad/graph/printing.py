"""A Graph as plain text, and as a table for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ckptgrad.graph.atoms import Atom, Constant, Variable

if TYPE_CHECKING:
    from ckptgrad.graph.graph import Graph


class _Names:
    """Names for variables, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.known: dict[Variable, str] = {}

    def __call__(self, atom: Atom) -> str:
        return str(atom.value) if isinstance(atom, Constant) else self.known.setdefault(atom, f"v{len(self.known)}")

    def typed(self, v: Variable) -> str:
        return f"{self(v)}: {v.aval.str_short()}"


def format_graph(graph: Graph) -> str:
    """One line per operation: outputs, primitive, inputs, and the user's line."""
    name = _Names()
    lines = [f"inputs     {', '.join(map(name.typed, graph.inputs))}"]
    if graph.constants:
        lines.append(f"constants  {', '.join(map(name.typed, graph.constants))}")
    body = [
        (f"  {', '.join(map(name.typed, op.outputs))} = {op.name}({', '.join(map(name, op.inputs))})", op.source)
        for op in graph.operations
    ]
    width = max((len(text) for text, _ in body), default=0)
    for text, source in body:
        lines.append(text if source is None else f"{text:<{width}}  # {source.brief}")
    lines.append(f"outputs    {', '.join(name(a) for a in graph.outputs)}")
    return "\n".join(lines)


MOST_ROWS = 200


def graph_html(graph: Graph) -> str:
    """A table for notebooks: a row per operation, with what it computes, what it reads and the user's line."""
    name = _Names()
    known = [*graph.inputs, *graph.constants]
    rows = [(", ".join(map(name.typed, known)), "(given)", "", "")] if known else []
    for op in graph.operations[:MOST_ROWS]:
        made = ", ".join(map(name.typed, op.outputs))
        rows.append((made, op.name, ", ".join(map(name, op.inputs)), op.source.brief if op.source else ""))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    head = "".join(map(_cell, ("variables", "operation", "reads", "source")))
    more = len(graph.operations) - MOST_ROWS
    tail = f"<p>... and {more} more operations</p>" if more > 0 else ""
    returned = escape(", ".join(map(name, graph.outputs)))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{tail}<p>returns {returned}</p>"


def _cell(text: str) -> str:
    return f'<td style="text-align:left">{escape(text)}</td>'
