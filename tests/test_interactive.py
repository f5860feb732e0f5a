"""A notebook cell that registers something can be rerun; registering the same name elsewhere is an error."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ckptgrad as cg
from ckptgrad.errors import DuplicateRuleError
from ckptgrad.planning import PolicyError, get_policy

CELL = """
import ckptgrad as cg

@cg.policy("cell policy")
def cell_policy(costs, budget=None):
    return {number}

@cg.bprop_rule("cell_primitive")
def cell_rule(op, g):
    return (g,)
"""


def test_rerunning_a_cell_replaces_what_it_registered():
    shell = InteractiveShell()
    for number in (1, 2):
        shell.run_cell(CELL.format(number=number)).raise_error()
        assert get_policy("cell policy")(None, None) == number


def test_another_function_does_not_replace_it():
    cg.policy("test policy")(lambda costs, budget: None)
    with pytest.raises(PolicyError, match="test policy"):
        cg.policy("test policy")(lambda costs, budget: None)
    cg.bprop_rule("test_primitive")(lambda op, g: (g,))
    with pytest.raises(DuplicateRuleError, match="test_primitive"):
        cg.bprop_rule("test_primitive")(lambda op, g: (g,))
