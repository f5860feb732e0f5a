"""Schedules as programs: interpreted, kept apart, certified."""
