"""Options as text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import pytest

from ckptgrad.errors import ArgnumsError
from ckptgrad.text_options import Text, TextOption, read_argnums


@dataclass
class Asked:
    has_aux: bool = field(default=False, metadata=Text("Whether there is more").metadata)
    policy: str = field(default="optimal", metadata=Text("The policy", lambda: ["a", "b"], str.upper).metadata)
    hidden: int = 3


OPTIONS = {f.name: TextOption.of(f) for f in fields(Asked)}


def test_a_field_is_an_option_if_it_says_how_it_is_written():
    assert OPTIONS["hidden"] is None
    option = OPTIONS["policy"]
    assert (option.name, option.default) == ("policy", "optimal")


def test_how_it_is_typed_and_what_it_asks_for():
    aux, policy = OPTIONS["has_aux"], OPTIONS["policy"]
    assert (aux.typed, aux.help, aux.is_flag) == ("--has-aux", "Whether there is more.", True)
    assert (policy.typed, policy.help, policy.is_flag) == ("--policy", "The policy: a, b.", False)


def test_texts_are_read_and_flags_are_taken_as_they_are():
    assert OPTIONS["policy"].value("optimal") == "OPTIMAL"
    assert OPTIONS["has_aux"].value(True) is True


@pytest.mark.parametrize(
    ("texts", "argnums"), [(["1"], 1), (["-1"], -1), (["0", "2"], (0, 2)), (["0,2"], (0, 2)), (["0,1", "3"], (0, 1, 3))]
)
def test_positions(texts, argnums):
    assert read_argnums(texts) == argnums


@pytest.mark.parametrize("texts", [["one"], ["0,"], [""], ["1.5"]])
def test_what_is_no_position_is_refused(texts):
    with pytest.raises(ArgnumsError, match="write a number, or several separated by commas"):
        read_argnums(texts)
