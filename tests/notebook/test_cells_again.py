"""A notebook's cell that registers something can be run again; a second registration elsewhere is an error."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ckptgrad as cg
from ckptgrad.errors import DuplicateRuleError
from ckptgrad.planning import PolicyError, get_policy

CELL = """
import ckptgrad as cg

@cg.policy("of a cell")
def of_a_cell(costs, budget=None):
    return {number}

@cg.bprop_rule("primitive_of_a_cell")
def rule_of_a_cell(op, g):
    return (g,)
"""


def test_a_cell_is_run_again_and_its_last_version_holds():
    shell = InteractiveShell()
    for number in (1, 2):
        shell.run_cell(CELL.format(number=number)).raise_error()
        assert get_policy("of a cell")(None, None) == number


def test_another_function_does_not_take_the_place():
    cg.policy("of this test")(lambda costs, budget: None)
    with pytest.raises(PolicyError, match="of this test"):
        cg.policy("of this test")(lambda costs, budget: None)
    cg.bprop_rule("primitive_of_this_test")(lambda op, g: (g,))
    with pytest.raises(DuplicateRuleError, match="primitive_of_this_test"):
        cg.bprop_rule("primitive_of_this_test")(lambda op, g: (g,))
