"""Loops taken apart, and the ways to reverse them."""
