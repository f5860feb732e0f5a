"""XLA's protocol buffers, read by their numbers: bytes written here by hand."""

from __future__ import annotations

import sys

import pytest

from ckptgrad.errors import MissingExtraError
from ckptgrad.meters import protos


def varint(number):
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    head, rest = number & 127, number >> 7
    return bytes([head | 128]) + varint(rest) if rest else bytes([head])


def field(number, value):
    """An integer, or a text or message with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def test_fields_by_their_numbers():
    shape = field(2, 11) + field(3, 8) + field(3, 300)
    metadata = field(2, b"jit(f)/tanh") + field(4, 12)
    instruction = field(1, b"tanh.1") + field(2, b"tanh") + field(3, shape) + field(7, metadata) + field(35, 5)
    computation = field(1, b"main") + field(2, instruction) + field(5, 2) + field(6, 5)
    module = protos.parse("Module", field(3, computation) + field(6, 2))
    (found,) = module.computations[0].instructions
    assert (module.entry, module.computations[0].root) == (2, 5)
    assert (found.name, found.opcode, found.id) == ("tanh.1", "tanh", 5)
    assert [*found.shape.dimensions] == [8, 300]
    assert (found.metadata.op_name, found.metadata.source_line) == ("jit(f)/tanh", 12)


def test_fields_that_are_not_listed_are_skipped():
    """As those of a newer version of XLA are."""
    assigned = field(1, 7) + field(2, 64) + field(3, 128)
    allocation = field(1, 3) + field(2, 4096) + field(7, 1) + field(99, b"something new") + field(9, assigned)
    found = protos.parse("BufferAssignment", field(77, 5) + field(3, allocation))
    (one,) = found.allocations
    assert (one.index, one.size, one.is_live_out, one.is_constant) == (3, 4096, True, False)
    assert [(a.buffer, a.offset, a.size) for a in one.assigned] == [(7, 64, 128)]


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    protos.message_classes.cache_clear()
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ckptgrad\[buffers\]'"):
        protos.parse("Module", b"")
    protos.message_classes.cache_clear()
