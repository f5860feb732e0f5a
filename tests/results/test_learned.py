"""What is expected of a plan follows from what others of its chain took, and never from its own program."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.results.learned import MOST_KEPT, Expected, Learned, number_of, text_of
from ckptgrad.target.target import described

TARGET = described("tpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path))


def learned(*pairs, on_disk=False):
    """Of plans that were predicted to take the first of each pair, and took the second."""
    found = Learned(TARGET, "a chain", on_disk)
    for number, (predicted, taken) in enumerate(pairs, start=100):
        found.add(number, predicted, taken)
    return found


@pytest.mark.parametrize(
    ("pairs", "predicted", "expected"),
    [
        ([], 500, 500),
        # One plan took a hundred more: so will others.
        ([(400, 500)], 300, 400),
        ([(400, 500)], 600, 700),
        # Between two, on the line between them, wherever it leads.
        ([(400, 500), (600, 600)], 500, 550),
        ([(400, 500), (600, 300)], 450, 450),
        # Beyond two as their line goes, no steeper than predictions, and not downwards.
        ([(400, 500), (600, 600)], 800, 700),
        ([(400, 500), (600, 600)], 200, 400),
        ([(400, 500), (600, 900)], 700, 1000),
        ([(400, 500), (600, 300)], 800, 300),
        ([(400, 50), (600, 250)], 100, 0),
        # But no further than they are apart: of two near each other little follows for one that is far away.
        ([(400, 500), (600, 600)], 1000, 900),
        ([(400, 500), (410, 500)], 1000, 1080),
        ([(400, 500), (410, 500)], 300, 410),
        # Of equal predictions the mean.
        ([(400, 500), (400, 520)], 400, 510),
    ],
)
def test_others_tell_by_how_much_a_prediction_is_off(pairs, predicted, expected):
    assert learned(*pairs).expected(7, predicted) == Expected(expected, len(pairs))


def test_what_is_expected_of_a_plan_stays_as_it_was_before_that_was_compiled():
    chain = learned((400, 500))
    before = chain.expected(7, 450)
    chain.add(7, 450, 999)
    chain.add(8, 460, 999)
    assert chain.expected(7, 450) == before == Expected(550, 1)
    assert chain.expected(9, 450) == Expected(999, 3)


def test_it_is_known_in_other_processes():
    chain = learned((400, 500), (600, 800), on_disk=True)
    again = Learned(TARGET, "a chain", on_disk=True)
    assert again.expected(7, 500) == chain.expected(7, 500) == Expected(650, 2)
    assert again.expected(101, 600) == Expected(700, 1)
    assert Learned(TARGET, "another chain", on_disk=True).expected(7, 500) == Expected(500, 0)
    assert Learned(described("cuda"), "a chain", on_disk=True).expected(7, 500) == Expected(500, 0)
    assert Learned(TARGET, "a chain", on_disk=False).expected(7, 500) == Expected(500, 0)


def test_few_are_kept():
    chain = Learned(TARGET, "a chain", on_disk=True)
    for number in range(MOST_KEPT + 9):
        chain.add(number, 400, 500)
    assert Learned(TARGET, "a chain", on_disk=True).expected(1000, 400) == Expected(500, MOST_KEPT)


def test_chains_are_told_apart_by_their_bytes_and_plans_by_their_actions():
    def costs(**options):
        return ChainCosts.uniform(3, **options)

    assert text_of(costs(), "fenced") == text_of(costs(forward_time=2.0), "fenced")
    others = [costs(residual_bytes=2), costs(boundary_bytes=2), costs(held_bytes=2), ChainCosts.uniform(4)]
    texts = {text_of(other, "fenced") for other in [costs(), *others]} | {text_of(costs(), "called")}
    assert len(texts) == 6
    first, second = cg.Forward(0, keep=None), cg.Forward(0, keep=0)
    assert number_of([[first]]) == number_of([[first]]) != number_of([[second]])
