"""The command line: `ckptgrad plan`, `timeline`, `frontier`, `validate`, `run`, `train`, `bench`, `rules`."""

from ckptgrad.cli.commands import app, main

__all__ = ["app", "main"]
