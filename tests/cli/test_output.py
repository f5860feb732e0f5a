"""Targets that print, and results that cannot be written: what the shell sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ckptgrad.cli import app
from tests.cli.noise import COMMANDS, NOISE


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_json_is_json_whatever_the_users_code_prints(user_module, words):
    noise = {**NOISE, "at_import": "print('at import')"}
    result = CliRunner().invoke(app, [words[0], *user_module(**noise), *words[1:], "--json"])
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


def test_json_is_json_in_a_shell(user_module):
    result = shell(["plan", *user_module(**NOISE), "--json"], stdout=subprocess.PIPE)
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
def test_results_that_cannot_be_written_are_one_line(user_module, stdout):
    descriptor = stdout()
    result = shell(["plan", *user_module()], stdout=descriptor)
    os.close(descriptor)
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("ckptgrad: cannot write to standard output")]
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full disk to write to")
@pytest.mark.parametrize("option", ["--html", "--png"])
@pytest.mark.parametrize("file", ["/dev/full", "folder", "file/below.png"])
def test_files_that_cannot_be_written_are_named(user_module, tmp_path, option, file):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    if option == "--png" and file != "file/below.png":
        (tmp_path / "linked.png").symlink_to(file)
        file = "linked.png"
    result = CliRunner().invoke(app, ["plan", *user_module(), option, file])
    assert result.exit_code == 2
    message = result.stderr.splitlines()[-1]
    assert message.startswith("ckptgrad: cannot write ")
    assert file.split("/")[0] in message
    assert "None" not in message
