"""What a figure was measured on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import jax

from ckptgrad.bench import environment
from ckptgrad.bench.peers import PEERS


def test_machine_versions_and_commit_are_plain_data():
    found = json.loads(json.dumps(environment.environment()))
    machine, versions = found["machine"], found["versions"]
    assert machine["device"] == jax.devices()[0].device_kind
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 2**28
    assert versions["jax"] == jax.__version__
    assert {peer.name for peer in PEERS} <= {*versions}
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", found["commit"])


def test_no_host_name_and_no_path():
    text = json.dumps(environment.environment())
    assert str(Path.home()) not in text
    assert not re.search(r'"/', text)


def test_a_commit_with_changes_is_marked(monkeypatch, tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b", *words], check=True)

    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE", tmp_path)
    assert environment.commit() is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    head = environment.commit()
    assert re.fullmatch("[0-9a-f]{40}", head)
    (tmp_path / "__init__.py").write_text("1")
    assert environment.commit() == head + "+"


def test_without_git_there_is_no_commit(monkeypatch):
    def missing(*args, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(environment.subprocess, "run", missing)
    assert environment.commit() is None
