"""The registry of cases."""

from __future__ import annotations

import re

import pytest

from ckptgrad.bench.registry import Bench, CaseError, case, get_cases, registered, unregister
from ckptgrad.bench.rows import row


@pytest.fixture
def free_name():
    yield "mine"
    unregister("mine")


def test_every_case_says_what_it_compares():
    for name, registered_case in registered().items():
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", name)
        assert registered_case.title
        assert len(registered_case.about.split()) > 10, name


def test_a_case_is_a_decorated_function(free_name):
    @case(free_name, "Mine against theirs")
    def mine(bench):
        """What the columns mean."""
        yield row("ours", steps=bench.size(100, 2))

    (new_case,) = get_cases([free_name])
    assert (new_case.title, new_case.about) == ("Mine against theirs", "What the columns mean.")
    assert [r.values for r in new_case.run(Bench(quick=True))] == [{"steps": 2}]
    with pytest.raises(CaseError, match="'mine' is already registered"):
        case(free_name, "Again")(mine)


def test_the_beginning_of_a_name_stands_for_a_family():
    names = [c.name for c in get_cases(["planner", "steps"])]
    assert names == ["planner-gaps", "planner-times", "steps"]
    assert {c.name for c in get_cases(["targets-h100"])} < {c.name for c in get_cases(["targets"])}
    with pytest.raises(CaseError, match="unknown case 'plan'"):
        get_cases(["plan"])


def test_an_unknown_case_is_refused_with_the_known_ones():
    with pytest.raises(CaseError, match=r"unknown case 'nope'; choose from .*steps"):
        get_cases(["steps", "nope"])
    with pytest.raises(CaseError, match="unknown case 'nope'"):
        unregister("nope")
