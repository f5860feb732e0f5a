"""What a buffer is, for people."""

from __future__ import annotations

import json

from ckptgrad.meters.buffers import KINDS, Buffer
from tests.cases.results import LINE


def test_kinds_begin_with_what_is_there_longest():
    assert KINDS[0] == "results"
    assert KINDS[-1] == "transients"
    assert {"boundaries", "residuals", "gradients"} < {*KINDS}


def test_types_are_written_as_jax_does():
    assert Buffer("residuals", 512, "tanh", (8, 16), "float32").type == "float32[8,16]"
    assert Buffer("results", 4, "output", (), "float32").type == "float32[]"
    assert Buffer("transients", 99, "inside the backward").type == ""


def test_plain_data_is_json():
    found = json.loads(json.dumps(Buffer("residuals", 512, "tanh", (8, 16), "float32", 3, LINE).to_dict()))
    assert found == {
        "kind": "residuals", "bytes": 512, "what": "tanh", "shape": [8, 16], "dtype": "float32", "stage": 3,
        "source": "models/model.py:12 (loss.<locals>.layer)", "name": "",
    }  # fmt: skip
    assert Buffer("transients", 1, "inside").to_dict()["source"] is None
