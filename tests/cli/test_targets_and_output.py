"""Targets that print, exit or raise, and results that cannot be written: what the shell sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ckptgrad.cli import app
from ckptgrad.cli.deliver import to_json

MODULE = """
import os, sys
import jax, jax.numpy as jnp
{at_import}

def loss(x):
    {while_traced}
    return jnp.sum(jnp.sin(x) ** 2)

args = (jnp.ones(4),)

def make_args():
    {when_called}
    return args
"""
COMMANDS = {
    "plan": ["plan"],
    "timeline": ["timeline", "--observe", "none"],
    "frontier": ["frontier", "--no-reference"],
    "validate": ["validate", "--repeats", "1", "--meters", "none"],
}
NOISE = {
    "at_import": "print('at import'); os.write(1, b'from below')",
    "while_traced": "print('traced'); jax.debug.print('running {}', x[0])",
    "when_called": "print('called')",
}


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Writes the module; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(at_import="", while_traced="pass", when_called="pass"):
        name = f"target_{abs(hash((str(tmp_path), at_import, while_traced, when_called)))}"
        (tmp_path / f"{name}.py").write_text(
            MODULE.format(at_import=at_import, while_traced=while_traced, when_called=when_called)
        )
        return [f"{name}:loss", f"{name}:make_args"]

    yield write
    for name in [n for n in sys.modules if n.startswith("target_")]:
        del sys.modules[name]


@pytest.mark.parametrize("place", NOISE)
@pytest.mark.parametrize(
    ("command", "code"), [*((name, "0") for name in COMMANDS), ("plan", ""), ("validate", "1"), ("plan", "'why'")]
)
def test_a_target_that_exits_is_an_error_of_exit_code_2(target, command, place, code):
    words = COMMANDS[command]
    result = CliRunner().invoke(app, [words[0], *target(**{place: f"sys.exit({code})"}), *words[1:], "--json"])
    assert result.exit_code == 2
    assert "SystemExit" in result.stderr or "sys.exit" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_target_that_raises_is_no_verdict(target, words):
    """Exit code 1 is a gradient that differs."""
    result = CliRunner().invoke(app, [words[0], *target(while_traced="raise KeyError('lost')"), *words[1:]])
    assert result.exit_code == 2
    assert "KeyError: 'lost'" in result.stderr


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_json_is_json_whatever_the_target_prints(target, words):
    noise = {**NOISE, "at_import": "print('at import')"}
    result = CliRunner().invoke(app, [words[0], *target(**noise), *words[1:], "--json"])
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    for text in ("at import", "traced", "called", *(["running 1.0"] if words[0] == "validate" else [])):
        assert text in result.stderr


def shell(words, **options):
    """A command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    return subprocess.run(
        [sys.executable, "-m", "ckptgrad.cli", *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )


def test_json_is_json_in_a_shell(target):
    result = shell(["plan", *target(**NOISE), "--json"], stdout=subprocess.PIPE)
    assert result.returncode == 0
    json.loads(result.stdout)
    assert "from below" in result.stderr


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full disk to write to")
@pytest.mark.parametrize(
    "stdout", [closed_pipe, lambda: os.open("/dev/full", os.O_WRONLY)], ids=["closed pipe", "full disk"]
)
def test_results_that_cannot_be_written_are_one_line(target, stdout):
    descriptor = stdout()
    result = shell(["plan", *target()], stdout=descriptor)
    os.close(descriptor)
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("ckptgrad: cannot write to standard output")]
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full disk to write to")
@pytest.mark.parametrize("option", ["--html", "--png"])
@pytest.mark.parametrize("file", ["/dev/full", "folder", "file/below.png"])
def test_files_that_cannot_be_written_are_named(target, tmp_path, option, file):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    if option == "--png" and file != "file/below.png":
        (tmp_path / "linked.png").symlink_to(file)
        file = "linked.png"
    result = CliRunner().invoke(app, ["plan", *target(), option, file])
    assert result.exit_code == 2
    message = result.stderr.splitlines()[-1]
    assert message.startswith("ckptgrad: cannot write ")
    assert file.split("/")[0] in message
    assert "None" not in message


def test_what_is_no_number_is_null_in_json():
    data = {"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": (None, "NaN", 3)}
    assert json.loads(to_json(data)) == {"a": [None, 1.5], "b": {"c": None}, "d": [None, "NaN", 3]}
