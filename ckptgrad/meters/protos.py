"""The parts of XLA's protocol buffers that are read here: the scheduled program, and its buffer assignment.

Field numbers are XLA's (`xla/service/hlo.proto`, `xla/xla_data.proto`); they never change, and fields that are not
listed are skipped, so that programs of other versions of XLA can be read too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ckptgrad.errors import MissingExtraError

_PACKAGE = "ckptgrad.xla"
# By name, the types of fields that are not messages, as protobuf calls them.
_SCALARS = {"int": "TYPE_INT64", "str": "TYPE_STRING", "bool": "TYPE_BOOL"}
# Message: field: (number, type); a type in brackets is repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Shape": {"element_type": (2, "int"), "dimensions": (3, "[int]"), "tuple_shapes": (4, "[Shape]")},
    "Metadata": {"op_name": (2, "str"), "source_file": (3, "str"), "source_line": (4, "int"), "stack_frame": (15, "int")},
    "Instruction": {
        "name": (1, "str"), "opcode": (2, "str"), "shape": (3, "Shape"), "metadata": (7, "Metadata"),
        "parameter_number": (9, "int"), "tuple_index": (13, "int"), "id": (35, "int"), "operands": (36, "[int]"),
        "called": (38, "[int]"),
    },
    "Computation": {"name": (1, "str"), "instructions": (2, "[Instruction]"), "id": (5, "int"), "root": (6, "int")},
    "Sequence": {"instructions": (1, "[int]")},
    "SequenceOf": {"computation": (1, "int"), "sequence": (2, "Sequence")},
    "Schedule": {"sequences": (1, "[SequenceOf]")},
    "FileLocation": {"file": (1, "int"), "function": (2, "int"), "line": (3, "int")},
    "StackFrame": {"location": (1, "int"), "parent": (2, "int")},
    "StackFrames": {
        "files": (1, "[str]"), "functions": (2, "[str]"), "locations": (3, "[FileLocation]"), "frames": (4, "[StackFrame]")
    },
    "Module": {
        "computations": (3, "[Computation]"), "entry": (6, "int"), "schedule": (7, "Schedule"), "stack": (17, "StackFrames")
    },
    "Location": {"shape_index": (3, "[int]"), "instruction": (4, "int")},
    "LogicalBuffer": {"id": (1, "int"), "size": (2, "int"), "defined_at": (3, "Location")},
    "Assigned": {"buffer": (1, "int"), "offset": (2, "int"), "size": (3, "int")},
    "Allocation": {
        "index": (1, "int"), "size": (2, "int"), "is_thread_local": (3, "bool"), "is_parameter": (5, "bool"),
        "is_live_out": (7, "bool"), "assigned": (9, "[Assigned]"), "is_tuple": (11, "bool"), "is_constant": (12, "bool"),
    },
    "BufferAssignment": {"buffers": (1, "[LogicalBuffer]"), "allocations": (3, "[Allocation]")},
}  # fmt: skip


@cache
def message_classes() -> dict[str, Any]:
    """By name, the classes that read the messages.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise MissingExtraError("reading XLA's buffers one by one", "protobuf", "buffers") from None
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ckptgrad/xla.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, field_type_name) in fields.items():
            bare = field_type_name.strip("[]")
            label = field_type.LABEL_REPEATED if field_type_name != bare else field_type.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            field.type = getattr(field_type, _SCALARS.get(bare, "TYPE_MESSAGE"))
            if bare not in _SCALARS:
                field.type_name = f".{_PACKAGE}.{bare}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {m: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{m}")) for m in _MESSAGES}


def parse(message: str, data: bytes) -> Any:
    """Bytes as the message of this name ("Module" or "BufferAssignment").

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    return message_classes()[message].FromString(data)
