"""Random programs against JAX: a few among the quick tests, thousands among the slow ones; and the search sees errors."""

from __future__ import annotations

import pytest

from tests.fuzz.doors import Question, judge
from tests.fuzz.program import Program, Statement, smaller
from tests.fuzz.search import FAILED, Finding, draw_case, minimise, search

PLAIN = Question("value_and_grad", (("budget", "min"),))
SLICE = 250


def fail(finding: Finding) -> None:
    """Fail with a program that can be pasted and run."""
    pytest.fail(f"\n{minimise(finding, 30.0)}", pytrace=False)


@pytest.mark.usefixtures("x64")
def test_some_programs_agree():
    for finding in search(range(8)):
        if finding.verdict.kind in FAILED:
            fail(finding)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("first", range(0, 5000, SLICE))
def test_thousands_of_programs_agree(first):
    agreed = 0
    for finding in search(range(first, first + SLICE), compile_every=100):
        if finding.verdict.kind in FAILED:
            fail(finding)
        agreed += finding.verdict.kind == "agree"
    # JAX refuses a few programs, and some overflow. If there were many of these, the search would compare too little.
    assert agreed > 0.9 * SLICE


SINE = """
def sine(d):
    wrong = jax.custom_vjp(jnp.sin)
    wrong.defvjp(lambda x: (jnp.sin(x), x), lambda r, g: (g * r,))
    return jnp.sin if d.name == "theirs" else wrong
""".strip()


@pytest.mark.usefixtures("x64")
def test_a_difference_is_found_and_made_small():
    """The sine of one side has a wrong derivative."""
    statements = (
        Statement(("$out = jnp.tanh($0)",), ("y",), "v1", "v"),
        Statement(("$out = sine(d)($0)",), ("x",), "v2", "v"),
        Statement(("$out = $0 * $1",), ("v1", "v2"), "v3", "v"),
    )
    program = Program((SINE,), statements, (("v1", "v"), ("v3", "v")), ("v1",))
    finding = minimise(Finding(0, program, PLAIN, judge(program, PLAIN)))
    assert finding.verdict.kind == "differ"
    assert len(finding.program.statements) == 1
    assert "sine(d)(x)" in str(finding)


def test_a_seed_gives_the_same_program_again():
    assert [draw_case(seed) for seed in range(5)] == [draw_case(seed) for seed in range(5)]


def test_smaller_programs_differ_from_the_original():
    program, _ = draw_case(11)
    others = list(smaller(program))
    assert len(others) > 3
    assert program not in others


NOT_TAKEN = """
def not_taken(d):
    ruled = jax.custom_vjp(jnp.sin)
    ruled.defvjp(lambda x: (ruled(x), x), lambda r, g: (g * r,))
    return ruled
""".strip()


@pytest.mark.usefixtures("x64")
def test_a_refusal_by_jax_in_a_branch_not_taken_counts_as_theirs():
    """The interpreter does not see the first branch, for which JAX has no second derivative."""
    statements = (Statement(("$out = lax.cond($1 < 0, not_taken(d), jnp.cos, $0) ** 2",), ("x", "n"), "v1", "v"),)
    verdict = judge(Program((NOT_TAKEN,), statements, (("v1", "v"),), ()), Question("jvp of grad"))
    assert verdict.kind == "theirs raises"


@pytest.mark.usefixtures("x64")
def test_a_loop_of_unknown_length_under_jax_reverse_mode_has_a_plan():
    loop = "d.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, a))[1]"
    statements = (Statement((f"$out = jax.vjp(lambda a: {loop}, $0)[1]($0)[0]",), ("x",), "v1", "v"),)
    assert judge(Program((), statements, (("v1", "v"),), ()), PLAIN).kind == "agree"
