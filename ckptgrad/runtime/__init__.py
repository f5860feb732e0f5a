"""Runtimes: a schedule executed."""
