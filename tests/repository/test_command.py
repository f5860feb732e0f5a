"""The command says that it starts before it imports what takes long."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import ckptgrad

ROOT = Path(__file__).parents[2]
RUN = "import sys; sys.argv = ['ckptgrad', '{option}']; import ckptgrad_command as c; c.main()"
START, VERSION = ([sys.executable, "-c", RUN.format(option=option)] for option in ("--help", "--version"))


def test_it_says_so_on_a_terminal():
    ours, theirs = pty.openpty()
    done = subprocess.run(
        START, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, check=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "starting" in said
    assert b"Usage" in done.stdout


def test_it_says_nothing_elsewhere_and_imports_nothing_that_takes_long():
    code = "import ckptgrad_command, sys; before = {*sys.modules}; assert not {'jax', 'rich', 'ckptgrad'} & before"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert subprocess.run(START, capture_output=True, cwd=ROOT, check=True).stderr == b""


def test_the_version_is_the_packages_and_imports_nothing_that_takes_long():
    checked = [*VERSION[:2], f"{VERSION[2]}; assert not {{'jax', 'ckptgrad'}} & {{*sys.modules}}"]
    done = subprocess.run(checked, capture_output=True, cwd=ROOT, check=True, text=True)
    assert done.stdout == f"ckptgrad {ckptgrad.__version__}\n"
