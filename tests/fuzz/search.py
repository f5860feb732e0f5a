"""The search for a program on which both engines differ, and the smallest one near it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from tests.fuzz.doors import Question, Verdict, draw_question, judge
from tests.fuzz.generate import draw
from tests.fuzz.program import Program, smaller

FAILED = ("differ", "ours raises")
# Compiled kinds of operations are forgotten after so many programs, so that memory stays bounded.
FORGET_AFTER = 500


@dataclass(frozen=True)
class Find:
    """A program, how it was differentiated, and what came out."""

    seed: int
    program: Program
    question: Question
    verdict: Verdict

    def __str__(self) -> str:
        options = dict(self.question.options)
        return (
            f"# seed {self.seed}: {self.verdict.kind}, {self.verdict.detail}\n"
            f"import jax\nfrom tests.fuzz.doors import Question, compare\nfrom tests.fuzz.prelude import *\n"
            f'jax.config.update("jax_enable_x64", True)\n\n{self.program.source()}\n'
            f"print(compare(program, Question({self.question.door!r}, {tuple(options.items())!r})))\n"
        )


def drawn(seed: int) -> tuple[Program, Question]:
    """The program and the question of a seed."""
    program = draw(seed)
    return program, draw_question(np.random.default_rng([seed, 1]), program.source())


def searched(seeds: range, *, compiled_each: int = 0) -> Iterator[Find]:
    """The programs of some seeds, judged; one in `compiled_each` by XLA, too.  Under `jax.enable_x64`."""
    for count, seed in enumerate(seeds):
        program, question = drawn(seed)
        verdict = judge(program, question)
        if verdict.kind == "agree" and compiled_each and count % compiled_each == 0:
            verdict = judge(program, question, interpreted=False)
        yield Find(seed, program, question, verdict)
        if count % FORGET_AFTER == FORGET_AFTER - 1:
            jax.clear_caches()


def minimised(find: Find, seconds: float = 60.0) -> Find:
    """A small program that fails in the same way, within some time."""
    end = time.monotonic() + seconds
    plain = Question("value_and_grad", (("budget", None),))
    if find.question != plain and (verdict := judge(find.program, plain)).kind == find.verdict.kind:
        find = Find(find.seed, find.program, plain, verdict)
    again = True
    while again and time.monotonic() < end:
        again = False
        for less in smaller(find.program):
            if time.monotonic() > end:
                break
            verdict = _judged(less, find.question)
            if verdict.kind == find.verdict.kind and verdict.detail.split(":")[0] == find.verdict.detail.split(":")[0]:
                find, again = Find(find.seed, less, find.question, verdict), True
                break
    return find


def _judged(program: Program, question: Question) -> Verdict:
    try:
        return judge(program, question)
    except Exception as error:  # What is left is no program.
        return Verdict("no program", str(error))
