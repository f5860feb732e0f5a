"""Text as bytes, and random windows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ckptgrad.errors import OptionError


def read_text(path: str | Path | None = None) -> bytes:
    """The bytes of a file, or by default the help topics of Python's documentation, which come with CPython.

    Raises:
        OptionError: the file cannot be read.
    """
    if path is None:
        from pydoc_data.topics import topics

        return "\n\n".join(topics.values()).encode()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OptionError(f"cannot read the text {str(path)!r}: {error.strerror}; give a readable file") from None


def windows(text: bytes, batch: int, length: int, seed: int) -> Iterator[np.ndarray]:
    """An endless stream of random windows of a text, each batch of shape (batch, length), int32.

    Raises:
        OptionError: the text is shorter than one window.
    """
    if len(text) < length:
        raise OptionError(
            f"the text has {len(text)} bytes, but a window takes {length} (the context plus one); "
            f"give a longer text or a smaller context"
        )
    data = np.frombuffer(text, np.uint8)
    offsets = np.arange(length)
    draw = np.random.default_rng(seed)
    while True:
        starts = draw.integers(0, len(text) - length + 1, batch)
        yield data[starts[:, None] + offsets].astype(np.int32)
