"""What may be given for `chunks=`."""

import pytest

import ckptgrad as cg
from ckptgrad.chunks.choice import ChunkChoice, read_chunks


@pytest.mark.parametrize(
    ("given", "choice"),
    [(True, ChunkChoice(True, True)), (False, ChunkChoice(False)), ("auto", ChunkChoice(True)), (ChunkChoice(True),) * 2],
)
def test_what_is_given_is_read(given, choice):
    assert read_chunks(given) == choice


def test_unless_asked_for_little_is_not_worth_it():
    assert [read_chunks("auto").is_worth(n) for n in (2**20 - 1, 2**20)] == [False, True]
    assert read_chunks(True).is_worth(0)
    assert not read_chunks(False).is_worth(2**40)


@pytest.mark.parametrize("given", [None, 3, "yes", 1.5, {}])
def test_anything_else_is_refused_at_once(given):
    with pytest.raises(cg.OptionError, match='must be True, False or "auto"'):
        cg.grad(abs, chunks=given)
