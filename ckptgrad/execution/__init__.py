"""Schedules as programs: interpreted, isolated, certified."""
