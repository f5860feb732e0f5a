"""What a residual may be kept as: encodings, each with a way there and back."""

from ckptgrad.stage.encodings import bfloat16, bits, float8, int8

__all__ = ["bfloat16", "bits", "float8", "int8"]
