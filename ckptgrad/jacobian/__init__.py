"""Whole Jacobians of chains."""
