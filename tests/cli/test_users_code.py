"""The user's code where it exits or raises: what the shell sees."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ckptgrad.cli import app
from tests.cli.noise import COMMANDS, NOISE


@pytest.mark.parametrize("place", NOISE)
@pytest.mark.parametrize(
    ("command", "code"), [*((name, "0") for name in COMMANDS), ("plan", ""), ("validate", "1"), ("plan", "'why'")]
)
def test_code_that_exits_is_an_error_of_exit_code_2(user_module, command, place, code):
    words = COMMANDS[command]
    result = CliRunner().invoke(app, [words[0], *user_module(**{place: f"sys.exit({code})"}), *words[1:], "--json"])
    assert result.exit_code == 2
    assert "SystemExit" in result.stderr or "sys.exit" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_code_that_raises_is_no_verdict(user_module, words):
    """Exit code 1 is a gradient that differs."""
    result = CliRunner().invoke(app, [words[0], *user_module(while_traced="raise KeyError('lost')"), *words[1:]])
    assert result.exit_code == 2
    assert "KeyError: 'lost'" in result.stderr
    frames = [line for line in result.stderr.splitlines() if line.startswith("  File ")]
    assert [frame.rpartition(" in ")[2] for frame in frames] == ["loss"]


@pytest.mark.parametrize(("place", "line"), [("at_import", "<module>"), ("when_called", "make_args")])
def test_lines_of_code_that_raises_before_anything_is_traced(user_module, place, line):
    result = CliRunner().invoke(app, ["plan", *user_module(**{place: "raise KeyError('lost')"})])
    assert result.exit_code == 2
    frames = [frame for frame in result.stderr.splitlines() if frame.startswith("  File ")]
    assert [frame.rpartition(" in ")[2] for frame in frames] == [line]
    assert result.stderr.count("ckptgrad: ") == 1
