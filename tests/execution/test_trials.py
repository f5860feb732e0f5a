"""What the compiler allocated is remembered between processes, decides as a compilation would, and is never certified."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import fields, replace

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.program import forget_kinds
from ckptgrad.execution import search
from ckptgrad.execution.certify import certify
from ckptgrad.results.learned import Expected
from ckptgrad.target import remember
from ckptgrad.target.allocated import Memory, compiled_memory
from ckptgrad.target.target import Target
from tests.support.imagined import Imagined, imagined_bytes


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path))
    yield tmp_path
    forget_kinds()  # whose bytes were read as a test says


def outcome(predicted, taken, budget):
    """The plan for a budget, or the smallest peak where there is none, and how many plans were compiled."""
    imagined = Imagined(predicted, taken)
    try:
        found = certify(imagined.build, (), {}, budget)
    except cg.BudgetError as error:
        return error.smallest, imagined.compilations
    assert found.rounds == imagined.compilations
    assert found.memory == Memory(taken[found.plan.number], 0, 0, 0)
    return found.plan.number, imagined.compilations


def change_on_disk(folder, value):
    with closing(sqlite3.connect(folder / remember.FILE)) as database, database:
        return database.execute("UPDATE measurements SET value = ?", (value,)).rowcount


@pytest.mark.parametrize("seed", range(2))
def test_what_is_remembered_decides_as_a_compilation_and_one_plan_is_compiled(seed):
    predicted, taken = imagined_bytes(seed)
    budgets = range(int(0.7 * predicted[0]), 11_000, 999)
    first = [outcome(predicted, taken, budget) for budget in budgets]
    again = [outcome(predicted, taken, budget) for budget in budgets]
    assert [found for found, _ in again] == [found for found, _ in first]
    assert max(compilations for _, compilations in first) > 1
    # Of what is refused, the smallest plan and the one of the fewest bytes.
    assert max(compilations for _, compilations in again) <= 2
    refused = sum(budget < min(taken) for budget in budgets)
    assert sum(compilations > 1 for _, compilations in again) <= refused


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("wrong", [0, 900, 1e9], ids=str)
def test_what_is_remembered_wrongly_is_never_certified(seed, wrong, folder):
    """Another plan may be taken, within the budget as well; what was compiled is right on disk again."""
    predicted, taken = imagined_bytes(seed)
    for budget in range(int(1.05 * predicted[0]), 11_000, 2999):
        outcome(predicted, taken, budget)
        assert change_on_disk(folder, wrong) > 0
        found, compilations = outcome(predicted, taken, budget)
        assert taken[found] <= budget
        assert compilations >= 1


def test_a_refusal_is_of_compiled_bytes(folder):
    predicted, taken = imagined_bytes(0)
    refused = outcome(predicted, taken, 500)
    assert refused[0] in taken
    assert change_on_disk(folder, 1e9) > 0
    assert outcome(predicted, taken, 500)[0] == refused[0]
    assert change_on_disk(folder, 0) > 0
    assert outcome(predicted, taken, 500)[0] == refused[0]


def test_what_is_expected_of_a_plan_follows_from_others_that_were_compiled_before_it():
    def expected(budget):
        found = certify(Imagined([900, 950, 2000], [980, 1040, 2100]).build, (), {}, budget)
        return found.plan.number, found.expected

    assert expected(3000) == (2, Expected(2000, 0))
    assert expected(1045) == (1, Expected(1050, 1))
    assert expected(1000) == (0, Expected(990, 2))
    # As before it was compiled, whatever is known by now.
    assert expected(3000) == (2, Expected(2000, 0))
    assert expected(1045) == (1, Expected(1050, 1))


X = jnp.linspace(-1, 1, 512 * 32).reshape(512, 32)
WS = [jnp.linspace(-0.5, 0.5, 32 * 32).reshape(32, 32) / (k + 1) for k in range(4)]


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


@pytest.fixture
def executables(monkeypatch):
    """What whole programs are compiled to from now on."""
    made, compile_program = [], Target.compile

    def counted(target, lowered):
        made.append(compile_program(target, lowered))
        return made[-1]

    monkeypatch.setattr(Target, "compile", counted)
    return made


def test_plans_that_did_not_fit_are_not_compiled_again(executables, monkeypatch):
    """The certificate is that of the executable; the plan is that of a call without memory."""
    extra = X.nbytes

    def read(target, executable):
        memory = compiled_memory(executable)
        return replace(memory, temporary_bytes=memory.temporary_bytes + extra)

    monkeypatch.setattr(Target, "allocated", read)
    budget = cg.plan(loss, WS, X, costs="compile").peak_bytes
    first = cg.value_and_grad(loss, budget=budget).compile(WS, X)
    assert len(executables) == first.rounds > 1
    again = cg.value_and_grad(loss, budget=budget).compile(WS, X)
    assert again.rounds == 1
    assert len(executables) == first.rounds + 1
    assert again.executable is executables[-1]
    assert again.memory == read(None, again.executable) == first.memory
    assert again.plan.schedule == first.plan.schedule


@pytest.mark.slow
def test_without_a_budget_the_smaller_of_two_forms_is_compiled_alone(executables):
    """Of fences and none."""
    x = jnp.ones((2 * search.FEW_BYTES // 128, 32))
    first = cg.value_and_grad(loss).compile(WS, x)
    assert first.rounds == len(executables) == 2
    again = cg.value_and_grad(loss).compile(WS, x)
    assert again.rounds == 1
    assert again.memory == first.memory
    assert again.plan.fenced == first.plan.fenced


def test_all_that_a_compiler_allocates_is_remembered(executables, folder):
    cg.value_and_grad(loss, policy="store_all").compile(WS, X)
    with closing(sqlite3.connect(folder / remember.FILE)) as database:
        before = database.execute("SELECT count(*) FROM measurements").fetchone()[0]
    assert before >= len(executables) * len(fields(Memory))
