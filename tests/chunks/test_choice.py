"""What may be given for `chunks=`."""

import pytest

import ckptgrad as cg
from ckptgrad.chunks.choice import ChunkChoice, read_chunks, read_written_chunks


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


def test_axes_that_stay_whole_are_named_by_arguments_and_their_leaves():
    names, ranks = ["batch['tokens']", "batch['mask']", "params.w", "x"], [2, 1, 2, 0]
    assert read_chunks("not axis 1 of batch['tokens']").whole_axes(names, ranks) == {0: (1,)}
    assert read_chunks(["not axis -1 of batch", "not axis 0 of params"]).whole_axes(names, ranks) == {
        0: (1,),
        1: (0,),
        2: (0,),
    }
    with pytest.raises(cg.OptionError, match=r"there is no batches among the arguments batch, params, x"):
        read_chunks("not axis 1 of batches").whole_axes(names, ranks)
    with pytest.raises(cg.OptionError, match=r"'not axis 2 of batch': batch has 2 axes, from 0 on"):
        read_chunks("not axis 2 of batch").whole_axes(names, ranks)


def test_the_command_line_gives_the_same():
    assert [read_written_chunks([word]) for word in ("true", "False", "auto")] == [True, False, "auto"]
    whole = ["not axis 1 of tokens", "not axis 0 of x"]
    assert read_chunks(read_written_chunks(whole)) == read_chunks(whole)


@pytest.mark.parametrize("given", [None, 3, "yes", 1.5, {}, [], [1], ["auto", "not axis 0 of x"], "not axis x of y"])
def test_anything_else_is_refused_at_once(given):
    with pytest.raises(cg.OptionError, match='must be True, False, "auto", or axes that stay whole'):
        cg.grad(abs, chunks=given)
