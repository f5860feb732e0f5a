"""Text as bytes, random windows of it, and batches as one process has them; `test_job.py` has several."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from ckptgrad.errors import OptionError
from ckptgrad.training.data import Data, read_text, windows

TEXT = bytes(range(100))


def test_a_file_or_what_comes_with_python(tmp_path):
    (tmp_path / "text").write_bytes(b"\x00 to be \xff")
    assert read_text(tmp_path / "text") == b"\x00 to be \xff"
    assert len(read_text()) > 100_000
    with pytest.raises(OptionError, match=r"cannot read the text '.*missing': No such file"):
        read_text(tmp_path / "missing")


def test_windows_are_runs_of_the_text():
    for batch in islice(windows(TEXT, 4, 10, seed=0), 20):
        assert (batch.shape, batch.dtype) == ((4, 10), np.int32)
        np.testing.assert_array_equal(batch, batch[:, :1] + np.arange(10))
        assert batch.max() < 100


def test_every_window_can_be_drawn_up_to_the_last():
    starts = {int(start) for batch in islice(windows(TEXT, 8, 98, seed=0), 20) for start in batch[:, 0]}
    assert starts == {0, 1, 2}
    (whole,) = next(windows(TEXT, 1, 100, seed=0))
    assert bytes(whole.astype(np.uint8)) == TEXT


def test_a_seed_is_a_stream():
    one, same, other = (np.stack([*islice(windows(TEXT, 2, 5, seed), 5)]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(OptionError, match="the text has 100 bytes, but a window takes 101"):
        next(windows(TEXT, 1, 101, seed=0))


def test_one_process_has_whole_batches():
    data = Data.of(TEXT, 4, 10, seed=0)
    for found, drawn in zip(islice(data.batches(), 3), windows(TEXT, 4, 10, seed=0), strict=False):
        np.testing.assert_array_equal(found, drawn)
        np.testing.assert_array_equal(data.here(data.everywhere(drawn)), drawn)
    assert data.mesh is None
    assert not data.processes.several
