"""Search for programs on which the engines differ, and make them small."""

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
# JAX's caches are cleared after this many programs, so that memory stays bounded.
FORGET_AFTER = 500


@dataclass(frozen=True)
class Finding:
    """A program, how it was differentiated, and the verdict."""

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


def draw_case(seed: int) -> tuple[Program, Question]:
    """The program and the question of a seed."""
    program = draw(seed)
    return program, draw_question(np.random.default_rng([seed, 1]), program.source())


def search(seeds: range, *, compile_every: int = 0) -> Iterator[Finding]:
    """Judge the program of each seed; every `compile_every`-th also as compiled by XLA. Call under `jax.enable_x64`."""
    for count, seed in enumerate(seeds):
        program, question = draw_case(seed)
        verdict = judge(program, question)
        if verdict.kind == "agree" and compile_every and count % compile_every == 0:
            verdict = judge(program, question, interpreted=False)
        yield Finding(seed, program, question, verdict)
        if count % FORGET_AFTER == FORGET_AFTER - 1:
            jax.clear_caches()


def minimise(finding: Finding, seconds: float = 60.0) -> Finding:
    """A smaller program that fails in the same way, as small as can be reached in the time."""
    end = time.monotonic() + seconds
    plain = Question("value_and_grad", (("budget", None),))
    if finding.question != plain and (verdict := judge(finding.program, plain)).kind == finding.verdict.kind:
        finding = Finding(finding.seed, finding.program, plain, verdict)
    again = True
    while again and time.monotonic() < end:
        again = False
        for less in smaller(finding.program):
            if time.monotonic() > end:
                break
            verdict = _judge_or_reject(less, finding.question)
            if verdict.kind == finding.verdict.kind and verdict.detail.split(":")[0] == finding.verdict.detail.split(":")[0]:
                finding, again = Finding(finding.seed, less, finding.question, verdict), True
                break
    return finding


def _judge_or_reject(program: Program, question: Question) -> Verdict:
    try:
        return judge(program, question)
    except Exception as error:  # what is left is not a valid program
        return Verdict("not a program", str(error))
