"""Actions in words."""

from __future__ import annotations

from ckptgrad.graph.source import SourceLine
from ckptgrad.results.predicted import Moment

_DOING = {"F": "forward of stage", "B": "backward of stage", "-": "freeing of boundary", ">": "sending away of boundary",
          "<": "fetching of boundary"}  # fmt: skip

# The kind of an array inside an action whose bytes are counted with its transients.
INSIDE = "inside"


def doing(action: str) -> str:
    """An action in words, if its letter has any: "F3:1" is the "forward of stage 3"."""
    return f"{_DOING.get(action[0], action[0])} {action[1:].split(':', maxsplit=1)[0].rstrip('~')}"


def briefly(action: str) -> str:
    """The same in fewer words: "forward 3", "freeing 3"."""
    return doing(action).replace(" of stage", "").replace(" of boundary", "")


def during(moment: Moment) -> str:
    """A moment in words, with the layer and the line of its stage: "backward of stage 3 (Block_1/attn, gpt.py:6)".

    Of a stage that runs over chunks it says of which: "backward of stage 3, in 8 chunks of 128 along axis 1 of tokens".
    """
    place = f" ({moment.place.brief})" if moment.place else ""
    return f"{doing(moment.action)}{place}{f', in {moment.chunks}' if moment.chunks else ''}"


def layer_of(source: SourceLine | None) -> str:
    """The layer alone."""
    return source.scope if source else ""


def line_of(source: SourceLine | None) -> str:
    """The user's line without its layer; with the function where no layer is known."""
    if source is None:
        return ""
    return source.place if source.scope else source.brief
