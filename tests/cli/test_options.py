"""Commands and magics take the options of a request from its fields and from the signatures of doors."""

import inspect
from dataclasses import fields

import pytest
from typer.testing import CliRunner

import ckptgrad as cg
from ckptgrad.cli import app
from ckptgrad.cli.options import Asked, asks
from ckptgrad.request import Request, text_options

DOORS = {"plan": cg.plan, "timeline": cg.timeline, "frontier": cg.frontier, "validate": cg.validate}
COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands}
WRITTEN = [option.name for option in text_options()]


@pytest.mark.parametrize("name", DOORS)
def test_a_command_takes_each_option_that_its_door_takes_and_that_can_be_written(name):
    assert {*text_names(COMMANDS[name])} - {"policy"} == {*text_names(DOORS[name])} - {"policy"}


def text_names(function):
    return [name for name in inspect.signature(function).parameters if name in WRITTEN]


def test_training_decides_what_its_own_loss_decides_and_runs_here():
    assert {*WRITTEN} - {*text_names(COMMANDS["train"])} == {"argnums", "has_aux", "target"}


@pytest.mark.parametrize("door", [*DOORS.values(), cg.value_and_grad])
def test_doors_and_requests_have_the_same_defaults(door):
    known = {field.name: field.default for field in fields(Request)}
    parameters = inspect.signature(door).parameters
    assert {name: parameters[name].default for name in text_names(door)} == {name: known[name] for name in text_names(door)}


def test_what_is_typed_is_read_and_checked_before_the_command_runs():
    seen = []

    @asks(cg.plan)
    def command(function: str, asked: Asked, diagram: bool = False) -> None:
        seen.append((function, asked, diagram))

    typed = dict.fromkeys(text_names(cg.plan)) | {"has_aux": True, "argnums": ["0", "2"], "budget": "1MiB", "policy": "sqrt"}
    command(function="math:sin", diagram=True, **typed)
    ((function, asked, diagram),) = seen
    assert (function, diagram) == ("math:sin", True)
    assert asked | {"argnums": (0, 2), "has_aux": True, "budget": "1MiB", "policy": "sqrt", "costs": "auto"} == asked
    with pytest.raises(cg.BudgetFormatError):
        command(function="no_such_module:f", **typed | {"budget": "much"})
    assert len(seen) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_is_cut_on_a_narrow_terminal(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [name, "--help"], env={"TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert "…" not in shown.output


@pytest.mark.parametrize("typed", ["--tier", "--tiers"])
def test_what_may_be_repeated_is_typed_in_the_singular_too(typed):
    words = ["train", "--runtime", "staged", typed, "no_such_kind:1MiB"]
    refused = CliRunner().invoke(app, words)
    assert "no_such_kind" in f"{refused.output}{refused.exception}"
