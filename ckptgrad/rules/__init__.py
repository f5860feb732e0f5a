"""Bprop rules, one file a family of primitives; importing the package registers them all."""

from ckptgrad.rules import arithmetic

__all__ = ["arithmetic"]
