"""The command line: `ckptgrad train`, `ckptgrad plan`, `ckptgrad validate`."""

from ckptgrad.cli.commands import app, main

__all__ = ["app", "main"]
