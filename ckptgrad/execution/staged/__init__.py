"""Schedules run action by action from Python: each distinct stage is a program of its own, compiled once."""
