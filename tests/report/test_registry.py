"""A type of result is shown as what is registered for it."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from ckptgrad.report import registry
from ckptgrad.report.page import page
from ckptgrad.results.shown import Shown


@dataclass(frozen=True, repr=False)
class Answer(Shown):
    number: int


@registry.parts.register(Answer)
def parts(answer):
    return [f"the answer is {answer.number}"]


def test_a_registered_type_is_shown_in_every_way():
    answer = Answer(3)
    assert str(answer) == repr(answer) == "the answer is 3"
    assert "<p>the answer is 3</p>" in answer._repr_html_()
    assert "<p>the answer is 3</p>" in page("title", {"section": answer})
    assert answer.figures() == {}


def test_a_type_that_is_not_registered_is_named():
    class Unknown(Shown):
        pass

    with pytest.raises(TypeError, match="no view is registered for results of type Unknown"):
        str(Unknown())
    with pytest.raises(TypeError, match="no diagram is registered for results of type Unknown"):
        registry.diagram(Unknown())


@pytest.mark.slow
def test_rich_and_matplotlib_are_imported_when_a_result_is_shown():
    code = (
        "import sys, jax.numpy as jnp, ckptgrad as cg; plan = cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(3)); "
        "assert not {'rich', 'matplotlib'} & {*sys.modules}; str(plan); assert 'rich' in sys.modules; "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
