"""Programs as data: statements with operands and blocks, which can be printed as Python source and made smaller.

A statement is a template of source lines, in which `$0`, `$1`, ... stand for its operands, `$f0`, ... for the functions that
its blocks become, and `$out` for its result. Names are unique in a program, so that blocks may read from outer scopes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

# The arguments of every program and their kinds, the differentiated ones first.
ARGUMENTS = {"x": "v", "y": "v", "m": "m", "u": "f", "n": "i", "key": "k"}
DIFFERENTIATED = (0, 1, 2, 3)

# What a value of each kind contributes to the loss.
SHARES = {
    "v": "jnp.sum($0 * w4)",
    "f": "jnp.sum($0 * w4.astype(jnp.float32)).astype(jnp.float64)",
    "h": "jnp.sum($0.astype(jnp.float32) * w4.astype(jnp.float32)).astype(jnp.float64)",
    "c": "jnp.sum(jnp.real($0) * w4 - 0.5 * jnp.imag($0))",
    "s": "$0 * 1.3",
    "m": "jnp.sum($0 @ w4)",
}


@dataclass(frozen=True)
class Block:
    """A function inside a program: names and kinds of its arguments, its statements, names of its results."""

    arguments: tuple[tuple[str, str], ...]
    statements: tuple[Statement, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """The lines of a template, and what replaces its placeholders."""

    lines: tuple[str, ...]
    operands: tuple[str, ...]
    out: str
    kind: str
    blocks: tuple[Block, ...] = ()

    def source(self, indent: str) -> Iterator[str]:
        """Its lines, after those of its blocks."""
        for k, block in enumerate(self.blocks):
            yield from function_source(f"{self.out}_f{k}", block, indent)
        for line in self.lines:
            yield indent + self._filled(line)

    def _filled(self, line: str) -> str:
        def replacement(match: re.Match) -> str:
            word = match.group(1)
            if word == "out":
                return self.out
            return f"{self.out}_f{word[1:]}" if word.startswith("f") else self.operands[int(word)]

        return re.sub(r"\$(out|f?\d+)", replacement, line)


@dataclass(frozen=True)
class Program:
    """Definitions of custom rules, statements, the values that the loss sums, and the values that aux returns."""

    definitions: tuple[str, ...]
    statements: tuple[Statement, ...]
    losses: tuple[tuple[str, str], ...]
    aux: tuple[str, ...]

    def source(self) -> str:
        """`def program(d, x, y, m, u, n, key)`, where `d` holds one engine's doors."""
        lines = [*self.definitions, f"def program(d, {', '.join(ARGUMENTS)}):"]
        for statement in self.statements:
            lines.extend(statement.source("    "))
        shares = [SHARES[kind].replace("$0", name) for name, kind in self.losses]
        lines.append(f"    return {' + '.join(shares)}, ({''.join(name + ', ' for name in self.aux)})")
        return "\n".join(lines) + "\n"


def function_source(name: str, block: Block, indent: str) -> Iterator[str]:
    """The source of a block as a function."""
    yield f"{indent}def {name}({', '.join(a for a, _ in block.arguments)}):"
    for statement in block.statements:
        yield from statement.source(indent + "    ")
    yield f"{indent}    return {', '.join(block.results)}"


def smaller(program: Program) -> Iterator[Program]:
    """Programs with one part left out, starting with large parts."""
    for k in range(len(program.losses)):
        if len(program.losses) > 1:
            yield replace(program, losses=program.losses[:k] + program.losses[k + 1 :])
    if program.aux:
        yield replace(program, aux=())
    scope = list(ARGUMENTS.items())
    for statements, renamed in _smaller_statements(program.statements, scope):
        losses = tuple((renamed.get(n, n), kind) for n, kind in program.losses)
        aux = tuple(renamed.get(n, n) for n in program.aux)
        yield replace(program, statements=statements, losses=losses, aux=aux)
    for k in range(len(program.definitions)):
        yield replace(program, definitions=program.definitions[:k] + program.definitions[k + 1 :])


def _smaller_statements(
    statements: tuple[Statement, ...], scope: list[tuple[str, str]]
) -> Iterator[tuple[tuple[Statement, ...], dict[str, str]]]:
    """The statements with one left out or made smaller, and a replacement for the name of a result that is gone."""
    known = list(scope)
    for k, statement in enumerate(statements):
        same = [name for name, kind in known if kind == statement.kind]
        for name in dict.fromkeys([*same[:1], *same[-1:]]):
            renamed = {statement.out: name}
            yield statements[:k] + tuple(_renamed(s, renamed) for s in statements[k + 1 :]), renamed
        if not same and not any(_reads(s, statement.out) for s in statements[k + 1 :]):
            yield statements[:k] + statements[k + 1 :], {}
        for less in _smaller_statement(statement, known):
            yield statements[:k] + (less,) + statements[k + 1 :], {}
        known.append((statement.out, statement.kind))


def _smaller_statement(statement: Statement, scope: list[tuple[str, str]]) -> Iterator[Statement]:
    for k in range(len(statement.lines)):
        if len(statement.lines) > 1:
            yield replace(statement, lines=statement.lines[:k] + statement.lines[k + 1 :])
    for k, block in enumerate(statement.blocks):
        for statements, renamed in _smaller_statements(block.statements, [*scope, *block.arguments]):
            results = tuple(renamed.get(n, n) for n in block.results)
            less = replace(block, statements=statements, results=results)
            yield replace(statement, blocks=statement.blocks[:k] + (less,) + statement.blocks[k + 1 :])


def _renamed(statement: Statement, names: dict[str, str]) -> Statement:
    blocks = tuple(
        replace(
            b,
            statements=tuple(_renamed(s, names) for s in b.statements),
            results=tuple(names.get(n, n) for n in b.results),
        )
        for b in statement.blocks
    )
    return replace(statement, operands=tuple(names.get(n, n) for n in statement.operands), blocks=blocks)


def _reads(statement: Statement, name: str) -> bool:
    inside = any(name in b.results or any(_reads(s, name) for s in b.statements) for b in statement.blocks)
    return name in statement.operands or inside
