"""Something to be done as soon as a module is imported, by whomever."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import Any


class AfterImport(MetaPathFinder):
    """An entry of `sys.meta_path` that calls a function when a module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name, self.then, self._finding = name, then, False

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name or self._finding:
            return None
        self._finding = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_then(module: Any) -> None:
            execute(module)
            self.then()

        spec.loader.exec_module = execute_then  # type: ignore[method-assign]
        return spec
