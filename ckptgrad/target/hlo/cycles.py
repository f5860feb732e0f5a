"""Seconds as XLA's TPU compiler expects them: it writes the cycles of each fusion and product beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ckptgrad.target.hlo.text import Instruction, Module
from ckptgrad.target.hlo.walk import total_seconds
from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def cycle_seconds(module: Module, rates: Rates, links: Links | None = None, without: str = "") -> float:
    """The seconds of a program by its compiler's estimates.

    Args:
        module: the program.
        rates: of the device; its clock counts.
        links: between devices; None: what they send each other takes no time.
        without: a scope that is left out.
    """

    def seconds(instruction: Instruction, inside: Mapping[str, Instruction]) -> float:
        stated = _CYCLES.search(instruction.attributes)
        return float(stated[1]) / rates.clock if stated else 0.0

    return total_seconds(module, seconds, links, without)
