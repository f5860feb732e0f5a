"""What is different in notebooks and at a prompt: code stands in cells, and cells are run again."""

from __future__ import annotations

import sys
from typing import Any


def cell_name(file: str) -> str | None:
    """What a notebook calls the cell whose code was compiled as this file: "In[3]"; None for other files."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    label = getattr(getattr(shell, "compile", None), "format_code_name", lambda file: None)(file)
    return label[1] if label else None


def is_defined_again(old: Any, new: Any) -> bool:
    """Whether a function of the same name takes the place of one, as where a cell is run again.

    Example:
        >>> is_defined_again(is_defined_again, is_defined_again)  # not the user's: modules run once
        False
    """
    old_name, new_name = ((getattr(f, "__module__", None), getattr(f, "__qualname__", None)) for f in (old, new))
    return old_name == new_name and new_name[0] == "__main__"
