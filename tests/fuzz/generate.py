"""Random programs, from a seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from tests.fuzz import loops, rules
from tests.fuzz.program import ARGUMENTS, SHARES, Block, Program, Statement
from tests.fuzz.vocabulary import ROWS, Row

MOST_DEPTH = 2
# Loops in loops run, interpreted, as often as the product of their lengths.
LONGEST = 8
# Parts of rules that compute another value than their function.
OTHER_FORWARD = ("jnp.tanh(x) * amount(tag)",)


@dataclass
class Drawing:
    """A program while it is drawn.

    Attributes:
        rng: where choices come from.
        allowed: which rows: those that need nothing, and those that need one of these.
        definitions: of custom rules, so far.
        count: of names that were given.
    """

    rng: np.random.Generator
    allowed: frozenset[str]
    definitions: list[str] = field(default_factory=list)
    count: int = 0

    def one(self, choices: list[str]) -> str:
        """One of several."""
        return choices[self.rng.integers(len(choices))]

    def filled(self, template: str) -> str:
        """A template with its choices made."""
        return re.sub(r"\{([^{}]*\|[^{}]*)\}", lambda m: self.one(m.group(1).split("|")), template)

    def name(self) -> str:
        """A new name."""
        self.count += 1
        return f"v{self.count}"

    def operand(self, kind: str, scope: list[tuple[str, str]]) -> str | None:
        """A value of a kind: mostly a late one, now and then one from far away."""
        known = [n for n, k in scope if k == kind]
        if not known:
            return None
        return (
            known[-1 - min(int(self.rng.geometric(0.4)) - 1, len(known) - 1)] if self.rng.random() < 0.7 else self.one(known)
        )

    def operands(self, kinds: str, scope: list[tuple[str, str]]) -> tuple[str, ...] | None:
        """Values of some kinds, if there are any."""
        kinds = re.sub(r"\[(\w+)\]", lambda m: self.one(list(m.group(1))), kinds)
        found = tuple(self.operand(k, scope) for k in kinds)
        return None if None in found else tuple(n for n in found if n is not None)

    def block(self, signature: str, scope: list[tuple[str, str]], depth: int) -> Block:
        """A function of some kinds to some kinds, which reads what is around it too."""
        ins, outs = signature.split(">")
        arguments = tuple((self.name(), k) for k in ins)
        inner = [*scope, *arguments]
        statements = self.statements(inner, int(self.rng.integers(0, 3)), depth + 1)
        # A result that depends on the arguments, and stays within bounds.
        results = []
        for kind in outs:
            late = [n for n, k in inner[len(scope) :] if k == kind]
            mixed = Statement(("$out = jnp.sin(0.8 * $0 + 0.3 * $1)",), (late[0], late[-1]), self.name(), kind)
            statements.append(mixed)
            results.append(mixed.out)
        return Block(arguments, tuple(statements), tuple(results))

    def statements(self, scope: list[tuple[str, str]], count: int, depth: int) -> list[Statement]:
        """Some statements, whose results join the scope."""
        found: list[Statement] = []
        while len(found) < count:
            statement = self.statement(scope, depth)
            if statement is not None:
                found.append(statement)
                scope.append((statement.out, statement.kind))
        return found

    def statement(self, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """One statement, of a row or of a family."""
        which = self.rng.random()
        if which < 0.1:
            return self.custom(scope)
        if which < 0.2 and depth < MOST_DEPTH:
            return self.buffered(scope, depth)
        if which < 0.28 and depth < MOST_DEPTH:
            return self.plain_loop(scope, depth)
        rows = [r for r in ROWS if (not r.needs or r.needs in self.allowed) and (depth < MOST_DEPTH or not r.blocks)]
        weights = np.array([r.weight * (2 if r.blocks else 1) for r in rows])
        return self.of_row(rows[self.rng.choice(len(rows), p=weights / weights.sum())], scope, depth)

    def of_row(self, row: Row, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """A statement of a row."""
        operands = self.operands(row.kinds, scope)
        if operands is None:
            return None
        blocks = tuple(self.block(b, scope, depth) for b in row.blocks)
        return Statement((f"$out = {self.filled(row.template)}",), operands, self.name(), row.kind, blocks)

    def plain_loop(self, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """A loop without buffers."""
        template, kinds, kind, blocks = loops.PLAIN[self.rng.integers(len(loops.PLAIN))]
        return self.of_row(Row(template.removeprefix("$out = "), kinds, kind, blocks), scope, depth)

    def custom(self, scope: list[tuple[str, str]]) -> Statement | None:
        """A call of a custom rule, its definition an earlier one or a new one."""
        operands = self.operands("v", scope)
        count = len(self.definitions)
        if not count or (count < 3 and self.rng.random() < 0.4):
            text = self.one(list(rules.TAGGED.values()))
            self.definitions.append(self.filled(text.replace("$n", str(count)).strip()))
            count += 1
        tags = rules.TAGS[self.rng.integers(len(rules.TAGS))]
        number = str(self.rng.integers(count))
        call = self.filled(self.one(rules.CALLS)).replace("$n", number)
        call = re.sub(r"\$t", lambda _: self.one(tags), call)
        call = call.replace("tagged", f"tagged{number}") if "tagged(" in call else call
        return None if operands is None else Statement((f"$out = {call}",), operands, self.name(), "v")

    def buffered(self, scope: list[tuple[str, str]], depth: int) -> Statement | None:
        """A loop that carries a buffer, a counter and a state."""
        operands = self.operands("vv", scope)
        if operands is None:
            return None
        lines = loops.BUFFERED[self.one(list(loops.BUFFERED))]
        floating = "floating counters" in self.allowed and lines is not loops.FORI and self.rng.random() < 0.4
        dtypes = loops.FLOATING if floating else loops.COUNTERS
        dtype = self.one(list(dtypes))
        start = self.one(dtypes[dtype])
        length = int(self.rng.integers(1, LONGEST if depth == 0 else 4))
        rows = max(1, length + int(self.rng.integers(-4, 5)))
        if depth == 0 and dtype == "np.uint8" and self.rng.random() < 0.05:
            length, rows = 262, 256
        words = self._words(floating, dtype, start, length, rows)

        def line(text: str) -> str:
            text = re.sub(r"\b(READ|WRITE|AGAIN|AFTER|ROOM|STEP|XS)\b", lambda m: words[m.group()], text)
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
        self._same_place = self.one(self._places(floating)) if chance() < 0.6 else None
        first = 0 if floating else int(start)
        last = first + length
        if not floating:
            last = min(last, int(np.iinfo(eval(dtype)).max))
        plain, typed = chance() < 0.5, chance() < 0.7
        return {
            "READ": "    " + self.one(loops.READS) if chance() < 0.5 else "",
            "WRITE": "    " + self.one(loops.WRITES),
            "AGAIN": "    " + (self.one(loops.READS) if chance() < 0.6 else self.one(loops.WRITES))
            if chance() < 0.25
            else "",
            "STEP": self.one(loops.STEPS).replace("i + T(1)", "i + 1" if plain and not floating else "i + T(1)"),
            "AFTER": self.one(loops.AFTER),
            "ROOM": self.one(loops.ROOMS),
            "XS": self.one(["None", f"jnp.outer(jnp.arange({length}) / 5.0, $1)"]),
            "R": str(rows),
            "T": dtype,
            "LENGTH": str(length),
            "LIMIT": str(min(length, LONGEST)),
            "START": start,
            "START_AS_INT": f"{dtype}({start})",
            "FIRST": f"{dtype}({first})" if typed else str(first),
            "LAST": f"{dtype}({last})" if typed else str(last),
            "REVERSE": self.one(["False", "False", "True"]),
            "M": self.one(loops.MODES),
        }

    def _places(self, floating: bool) -> list[str]:
        return [p for p in loops.PLACES if p.startswith("i.astype(jnp.int")] if floating else loops.PLACES

    def _place(self, floating: bool) -> str:
        return self._same_place or self.one(self._places(floating))


def draw(seed: int) -> Program:
    """The program of a seed."""
    rng = np.random.default_rng(seed)
    # Values of mixed dtypes are compared in double precision, which counters that round do not stand.
    allowed = frozenset({"mixed"} if rng.random() < 0.3 else {"floating counters"})
    drawing = Drawing(rng, allowed)
    scope = list(ARGUMENTS.items())
    statements = drawing.statements(scope, int(rng.integers(2, 6)), 0)
    made = [(s.out, s.kind) for s in statements]
    usable = [(n, k) for n, k in made if k in SHARES] or [("x", "v")]
    losses = {usable[-1], *(usable[rng.integers(len(usable))] for _ in range(rng.integers(0, 3)))}
    losses |= {(n, k) for n, k in list(ARGUMENTS.items())[:2] if rng.random() < 0.2}
    aux = tuple(made[rng.integers(len(made))][0] for _ in range(rng.integers(0, 4)))
    # A value that only aux returns is not differentiated here: its custom rules, which JAX applies, are not.
    if any(word in d for d in drawing.definitions for word in OTHER_FORWARD):
        aux = ()
    return Program(tuple(drawing.definitions), tuple(statements), tuple(sorted(losses)), aux)
