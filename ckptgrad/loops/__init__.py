"""Loops inside stages, and the ways to reverse them; importing the package registers the rules of `scan` and `while`."""

from ckptgrad.loops import rules

__all__ = ["rules"]
