"""Results as JSON, and what is shown while they are made."""

import json

from ckptgrad.cli.deliver import stepping, to_json, working


def test_what_is_not_a_number_is_null_in_json():
    data = {"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": (None, "NaN", 3)}
    assert json.loads(to_json(data)) == {"a": [None, 1.5], "b": {"c": None}, "d": [None, "NaN", 3]}


def test_what_is_being_done_leaves_nothing_in_a_file(capsys):
    with working("planning"):
        pass
    with stepping("validating") as step:
        step("jax.grad", 1, 2)
    assert capsys.readouterr() == ("", "")
