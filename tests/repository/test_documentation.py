"""Every public name says what it is, and shows it."""

from __future__ import annotations

import doctest
import inspect

import pytest

import ckptgrad as cg


@pytest.mark.parametrize("name", cg.__all__)
def test_a_public_name_has_an_example_that_is_run(name):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(cg, name)) or "")
    assert any(example.want for example in examples), f"{name} shows no result"
    assert not any(example.options.get(doctest.SKIP) for example in examples)


def test_all_public_names_exist():
    assert all(hasattr(cg, name) for name in cg.__all__)
    assert len(set(cg.__all__)) == len(cg.__all__)
    assert cg.__version__
