"""Slower storage for what a staged gradient holds too much of: kinds of tiers, and what moves values to them and back."""

from ckptgrad.execution.tiers import disk, host

__all__ = ["disk", "host"]
