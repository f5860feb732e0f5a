"""What a residual may be kept as: encodings, each with a way there and back."""

from ckptgrad.stage.encodings import bits

__all__ = ["bits"]
