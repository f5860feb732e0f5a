"""What is done after an import."""

from __future__ import annotations

import importlib
import sys

from ckptgrad.scripts.after_import import AfterImport


def test_it_is_done_once_the_module_is_whole_and_for_no_other(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text("value = 3\n")
    (tmp_path / "other_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    finder = AfterImport("late_module", lambda: seen.append(sys.modules["late_module"].value))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    importlib.import_module("other_module")
    assert seen == []
    importlib.import_module("late_module")
    assert seen == [3]
    del sys.modules["late_module"]


def test_a_module_that_is_not_there_stays_so(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [AfterImport("no_such_module", lambda: None), *sys.meta_path])
    assert importlib.util.find_spec("no_such_module") is None
