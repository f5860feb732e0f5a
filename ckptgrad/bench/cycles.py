"""The cycles that a TPU's compiler expects a program to take, from the program's text."""

from __future__ import annotations

import re

from jax.stages import Compiled

# A computation begins at the left edge, with its name; what is inside is indented.
_BEGIN = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_LOOP = re.compile(r"\bwhile\(.*\bbody=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"\b(?:calls|to_apply|called_computations|branch_computations)=\{?(%?[\w.\-]+(?:, ?%?[\w.\-]+)*)")


def estimated_cycles(executable: Compiled) -> int | None:
    """The sum over a program's fusions and products, a loop's body times its trips; None where the compiler gives none.

    A loop whose trips the compiler does not know counts once.
    """
    text = executable.as_text() or ""
    return cycles_in(text) if _CYCLES.search(text) else None


def cycles_in(text: str) -> int:
    """As `estimated_cycles`, from the text of a program."""
    own: dict[str, int] = {}
    called: dict[str, list[tuple[str, int]]] = {}
    inside = entry = ""
    for line in text.splitlines():
        if begun := _BEGIN.match(line):
            inside = begun[2]
            entry = inside if begun[1] else entry
            own[inside], called[inside] = 0, []
        elif inside:
            own[inside] += sum(map(int, _CYCLES.findall(line)))
            if loop := _LOOP.search(line):
                trips = _TRIPS.search(line)
                called[inside].append((loop[1], int(trips[1]) if trips else 1))
            elif names := _CALLED.search(line):
                called[inside] += [(name.strip(" %"), 1) for name in names[1].split(",")]

    def total(name: str) -> int:
        return own.get(name, 0) + sum(times * total(n) for n, times in called.get(name, ()))

    return total(entry)
