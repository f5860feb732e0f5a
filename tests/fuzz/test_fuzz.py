"""Random programs against JAX: few quickly, thousands among the slow tests; and that the search sees what is wrong."""

from __future__ import annotations

import pytest

from tests.fuzz.doors import Question, judge
from tests.fuzz.program import Program, Statement, smaller
from tests.fuzz.search import FAILED, Find, drawn, minimised, searched

PLAIN = Question("value_and_grad", (("budget", "min"),))
SLICE = 250


def fail(find: Find) -> None:
    """Stop with a program that can be pasted."""
    pytest.fail(f"\n{minimised(find, 30.0)}", pytrace=False)


@pytest.mark.usefixtures("x64")
def test_some_programs_agree():
    for find in searched(range(8)):
        if find.verdict.kind in FAILED:
            fail(find)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("first", range(0, 5000, SLICE))
def test_thousands_of_programs_agree(first):
    agreed = 0
    for find in searched(range(first, first + SLICE), compiled_each=100):
        if find.verdict.kind in FAILED:
            fail(find)
        agreed += find.verdict.kind == "agree"
    # JAX refuses a few, and some overflow; were they many, the search would promise more than it does.
    assert agreed > 0.9 * SLICE


SINE = """
def sine(d):
    wrong = jax.custom_vjp(jnp.sin)
    wrong.defvjp(lambda x: (jnp.sin(x), x), lambda r, g: (g * r,))
    return jnp.sin if d.name == "theirs" else wrong
""".strip()


@pytest.mark.usefixtures("x64")
def test_a_difference_is_seen_and_made_small():
    """One side's sine has another derivative."""
    statements = (
        Statement(("$out = jnp.tanh($0)",), ("y",), "v1", "v"),
        Statement(("$out = sine(d)($0)",), ("x",), "v2", "v"),
        Statement(("$out = $0 * $1",), ("v1", "v2"), "v3", "v"),
    )
    program = Program((SINE,), statements, (("v1", "v"), ("v3", "v")), ("v1",))
    find = minimised(Find(0, program, PLAIN, judge(program, PLAIN)))
    assert find.verdict.kind == "differ"
    assert len(find.program.statements) == 1
    assert "sine(d)(x)" in str(find)


def test_a_seed_gives_the_same_program_again():
    assert [drawn(seed) for seed in range(5)] == [drawn(seed) for seed in range(5)]


def test_smaller_programs_are_other_programs():
    program, _ = drawn(11)
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
def test_what_jax_refuses_where_it_is_not_run_is_refused_by_both():
    """The interpreter of the index 2 does not see the first branch, whose second derivative JAX does not have."""
    statements = (Statement(("$out = lax.cond($1 < 0, not_taken(d), jnp.cos, $0) ** 2",), ("x", "n"), "v1", "v"),)
    verdict = judge(Program((NOT_TAKEN,), statements, (("v1", "v"),), ()), Question("jvp of grad"))
    assert verdict.kind == "theirs raises"


@pytest.mark.usefixtures("x64")
def test_a_loop_of_unknown_length_in_a_derivative_of_jax_has_a_plan():
    loop = "d.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, a))[1]"
    statements = (Statement((f"$out = jax.vjp(lambda a: {loop}, $0)[1]($0)[0]",), ("x",), "v1", "v"),)
    assert judge(Program((), statements, (("v1", "v"),), ()), PLAIN).kind == "agree"
