"""Calls as users write them, taken apart without being run."""

from __future__ import annotations

import pytest

from ckptgrad.errors import OptionError
from ckptgrad.notebook.calls import read_call, split_options


def test_options_are_split_from_the_call():
    assert split_options("f(x - -1, 'a --b') --budget 1MiB") == ("f(x - -1, 'a --b')", "--budget 1MiB")
    assert split_options("f(x)") == ("f(x)", "")


def test_a_call_is_read_but_not_run():
    call = read_call("f(*xs, 3, k=4)", {"f": None, "xs": [1, 2]})
    assert call == (None, (1, 2, 3), {"k": 4})


def test_functions_and_arguments_are_evaluated_where_they_stand():
    names = {"model": {"loss": len}, "x": [1, 2, 3]}
    call = read_call("model['loss'](x[1:], key={'a': x})", names)
    assert call.function is len
    assert (call.args, call.kwargs) == (([2, 3],), {"key": {"a": [1, 2, 3]}})
    assert set(names) == {"model", "x"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("f(", "cannot read 'f\\('"), ("x + 1", "'x \\+ 1' is not a call"), ("y = f(x)", "write a call such as")],
)
def test_what_is_no_call_is_refused(text, words):
    with pytest.raises(OptionError, match=words):
        read_call(text, {})


def test_a_name_that_is_not_there_is_said_with_the_one_that_is_meant():
    with pytest.raises(OptionError, match=r"name 'los' is not defined; did you mean 'loss'\?$"):
        read_call("los(x)", {"loss": len, "x": []})
    with pytest.raises(OptionError, match=r"name 'q' is not defined$"):
        read_call("loss(q)", {"loss": len})


def test_a_name_that_is_missing_in_the_users_code_is_hers():
    def arguments():
        return missing  # noqa: F821

    with pytest.raises(NameError, match="missing"):
        read_call("loss(arguments())", {"loss": len, "arguments": arguments})


@pytest.mark.parametrize(
    ("line", "call", "options"),
    [
        ("f(x) --a 1 --b", "f(x)", "--a 1 --b"),
        ("f(x --y)", "f(x --y)", ""),
        ("f(' --a') --b", "f(' --a')", "--b"),
        ("  f( x )  --b ", "f( x )", "--b"),
        ("f(x", "f(x", ""),
    ],
)
def test_options_begin_where_the_call_is_whole(line, call, options):
    assert split_options(line) == (call, options)
