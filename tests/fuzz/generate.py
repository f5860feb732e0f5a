"""Random programs from a seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from tests.fuzz import loops, rules
from tests.fuzz.program import ARGUMENTS, SHARES, Block, Program, Statement
from tests.fuzz.vocabulary import ROWS, Row

MAX_DEPTH = 2
# The interpreter runs the body of nested loops as often as the product of their lengths.
MAX_LENGTH = 8
# Rules whose forward computes a different value from their function.
OTHER_FORWARD = ("jnp.tanh(x) * amount(tag)",)


@dataclass
class Drawing:
    """A program being drawn.

    Attributes:
        rng: the source of all choices.
        allowed: what rows may need; rows that need nothing are always allowed.
        definitions: custom rules defined so far.
        count: number of names used so far.
    """

    rng: np.random.Generator
    allowed: frozenset[str]
    definitions: list[str] = field(default_factory=list)
    count: int = 0

    def choose(self, choices: list[str]) -> str:
        """One of the choices."""
        return choices[self.rng.integers(len(choices))]

    def fill(self, template: str) -> str:
        """A template with one alternative chosen wherever it has several."""
        return re.sub(r"\{([^{}]*\|[^{}]*)\}", lambda m: self.choose(m.group(1).split("|")), template)

    def name(self) -> str:
        """A new name."""
        self.count += 1
        return f"v{self.count}"

    def operand(self, kind: str, scope: list[tuple[str, str]]) -> str | None:
        """The name of a value of a kind: mostly a recent one, sometimes any."""
        known = [n for n, k in scope if k == kind]
        if not known:
            return None
        return (
            known[-1 - min(int(self.rng.geometric(0.4)) - 1, len(known) - 1)]
            if self.rng.random() < 0.7
            else self.choose(known)
        )

    def operands(self, kinds: str, scope: list[tuple[str, str]]) -> tuple[str, ...] | None:
        """The names of values of these kinds; None if the scope has none of some kind."""
        kinds = re.sub(r"\[(\w+)\]", lambda m: self.choose(list(m.group(1))), kinds)
        names = tuple(self.operand(k, scope) for k in kinds)
        return None if None in names else tuple(n for n in names if n is not None)

    def block(self, signature: str, scope: list[tuple[str, str]], depth: int) -> Block:
        """A function with this signature, which may also read values from the scope around it."""
        ins, outs = signature.split(">")
        arguments = tuple((self.name(), k) for k in ins)
        inner = [*scope, *arguments]
        statements = self.statements(inner, int(self.rng.integers(0, 3)), depth + 1)
        # Each result depends on the arguments, and is bounded.
        results = []
        for kind in outs:
            local = [n for n, k in inner[len(scope) :] if k == kind]
            mixed = Statement(("$out = jnp.sin(0.8 * $0 + 0.3 * $1)",), (local[0], local[-1]), self.name(), kind)
            statements.append(mixed)
            results.append(mixed.out)
        return Block(arguments, tuple(statements), tuple(results))

    def statements(self, scope: list[tuple[str, str]], count: int, depth: int) -> list[Statement]:
        """`count` statements, whose results are added to the scope."""
        statements: list[Statement] = []
        while len(statements) < count:
            statement = self.statement(scope, depth)
            if statement is not None:
                statements.append(statement)
                scope.append((statement.out, statement.kind))
        return statements

    def statement(self, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """One statement: a custom rule, a loop, or a row of the vocabulary. None if the scope lacks an operand."""
        chance = self.rng.random()
        if chance < 0.1:
            return self.custom(scope)
        if chance < 0.2 and depth < MAX_DEPTH:
            return self.buffered(scope, depth)
        if chance < 0.28 and depth < MAX_DEPTH:
            return self.plain_loop(scope, depth)
        rows = [r for r in ROWS if (not r.needs or r.needs in self.allowed) and (depth < MAX_DEPTH or not r.blocks)]
        weights = np.array([r.weight * (2 if r.blocks else 1) for r in rows])
        return self.from_row(rows[self.rng.choice(len(rows), p=weights / weights.sum())], scope, depth)

    def from_row(self, row: Row, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """A statement made from a row."""
        operands = self.operands(row.kinds, scope)
        if operands is None:
            return None
        blocks = tuple(self.block(b, scope, depth) for b in row.blocks)
        return Statement((f"$out = {self.fill(row.template)}",), operands, self.name(), row.kind, blocks)

    def plain_loop(self, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """A loop without buffers."""
        template, kinds, kind, blocks = loops.PLAIN[self.rng.integers(len(loops.PLAIN))]
        return self.from_row(Row(template.removeprefix("$out = "), kinds, kind, blocks), scope, depth)

    def custom(self, scope: list[tuple[str, str]]) -> Statement | None:
        """A call of a custom rule, defined earlier or newly."""
        operands = self.operands("v", scope)
        count = len(self.definitions)
        if not count or (count < 3 and self.rng.random() < 0.4):
            text = self.choose(list(rules.TAGGED.values()))
            self.definitions.append(self.fill(text.replace("$n", str(count)).strip()))
            count += 1
        tags = rules.TAGS[self.rng.integers(len(rules.TAGS))]
        number = str(self.rng.integers(count))
        call = self.fill(self.choose(rules.CALLS)).replace("$n", number)
        call = re.sub(r"\$t", lambda _: self.choose(tags), call)
        call = call.replace("tagged", f"tagged{number}") if "tagged(" in call else call
        return None if operands is None else Statement((f"$out = {call}",), operands, self.name(), "v")

    def buffered(self, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """A loop that carries a buffer, a counter and a state."""
        operands = self.operands("vv", scope)
        if operands is None:
            return None
        lines = loops.BUFFERED[self.choose(list(loops.BUFFERED))]
        floating = "floating counters" in self.allowed and lines is not loops.FORI and self.rng.random() < 0.4
        dtypes = loops.FLOATING if floating else loops.COUNTERS
        dtype = self.choose(list(dtypes))
        start = self.choose(dtypes[dtype])
        length = int(self.rng.integers(1, MAX_LENGTH if depth == 0 else 4))
        rows = max(1, length + int(self.rng.integers(-4, 5)))
        if depth == 0 and dtype == "np.uint8" and self.rng.random() < 0.05:
            length, rows = 262, 256
        words = self._words(floating, dtype, start, length, rows)

        def line(text: str) -> str:
            text = re.sub(r"\b(READ|WRITE|AGAIN|AFTER|BUFFER|STEP|XS)\b", lambda m: words[m.group()], text)
            text = re.sub(r"\bP\b", f"({self._place(floating)})", text)
            return re.sub(
                r"\b(R|T|LENGTH|START|START_AS_INT|FIRST|LAST|LIMIT|REVERSE|M)\b", lambda m: words[m.group()], text
            )

        texts = [t for t in map(line, lines) if t.strip()]
        if words["XS"] == "None":
            texts = [t.replace("e + r)", "e + $1)") for t in texts]
        return Statement(tuple(texts), operands, self.name(), "v", (self.block("vv>v", scope, depth + 1),))

    def _words(self, floating: bool, dtype: str, start: str, length: int, rows: int) -> dict[str, str]:
        chance = self.rng.random
        self._same_place = self.choose(self._places(floating)) if chance() < 0.6 else None
        first = 0 if floating else int(start)
        last = first + length
        if not floating:
            last = min(last, int(np.iinfo(eval(dtype)).max))
        plain, typed = chance() < 0.5, chance() < 0.7
        return {
            "READ": "    " + self.choose(loops.READS) if chance() < 0.5 else "",
            "WRITE": "    " + self.choose(loops.WRITES),
            "AGAIN": "    " + (self.choose(loops.READS) if chance() < 0.6 else self.choose(loops.WRITES))
            if chance() < 0.25
            else "",
            "STEP": self.choose(loops.STEPS).replace("i + T(1)", "i + 1" if plain and not floating else "i + T(1)"),
            "AFTER": self.choose(loops.AFTER),
            "BUFFER": self.choose(loops.BUFFERS),
            "XS": self.choose(["None", f"jnp.outer(jnp.arange({length}) / 5.0, $1)"]),
            "R": str(rows),
            "T": dtype,
            "LENGTH": str(length),
            "LIMIT": str(min(length, MAX_LENGTH)),
            "START": start,
            "START_AS_INT": f"{dtype}({start})",
            "FIRST": f"{dtype}({first})" if typed else str(first),
            "LAST": f"{dtype}({last})" if typed else str(last),
            "REVERSE": self.choose(["False", "False", "True"]),
            "M": self.choose(loops.MODES),
        }

    def _places(self, floating: bool) -> list[str]:
        return [p for p in loops.PLACES if p.startswith("i.astype(jnp.int")] if floating else loops.PLACES

    def _place(self, floating: bool) -> str:
        return self._same_place or self.choose(self._places(floating))


def draw(seed: int) -> Program:
    """The program of a seed."""
    rng = np.random.default_rng(seed)
    # Programs of mixed dtypes are computed in double precision, where a floating counter would not round as it should.
    allowed = frozenset({"mixed"} if rng.random() < 0.3 else {"floating counters"})
    drawing = Drawing(rng, allowed)
    scope = list(ARGUMENTS.items())
    statements = drawing.statements(scope, int(rng.integers(2, 6)), 0)
    results = [(s.out, s.kind) for s in statements]
    usable = [(n, k) for n, k in results if k in SHARES] or [("x", "v")]
    losses = {usable[-1], *(usable[rng.integers(len(usable))] for _ in range(rng.integers(0, 3)))}
    losses |= {(n, k) for n, k in list(ARGUMENTS.items())[:2] if rng.random() < 0.2}
    aux = tuple(results[rng.integers(len(results))][0] for _ in range(rng.integers(0, 4)))
    # This engine does not differentiate a value that only aux returns, so it does not run its custom rules; JAX does.
    if any(word in d for d in drawing.definitions for word in OTHER_FORWARD):
        aux = ()
    return Program(tuple(drawing.definitions), tuple(statements), tuple(sorted(losses)), aux)
