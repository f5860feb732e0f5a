"""Loops inside stages, and the ways to reverse them."""
