"""Results as JSON."""

import json

from ckptgrad.cli.deliver import to_json


def test_what_is_not_a_number_is_null_in_json():
    data = {"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": (None, "NaN", 3)}
    assert json.loads(to_json(data)) == {"a": [None, 1.5], "b": {"c": None}, "d": [None, "NaN", 3]}
