"""What an ONNX file asks of whoever loads it, read from the protobuf bytes, without onnx and without a runtime.

Only three questions matter before a file from elsewhere is given to a runtime: does it point to data in other files,
does it use operators that are not ONNX's own, and which opset does it need. Field numbers: onnx.proto3 of ONNX 1.x.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

STANDARD_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})

PARTS: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
"""Each kind of message, and the kinds of messages in its fields, wherever a tensor, a node or an opset can hide."""
MODEL_GRAPH: Final = 7
NODE_DOMAIN: Final = 7
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
OPSET_DOMAIN, OPSET_VERSION = 1, 2


class OnnxFacts(NamedTuple):
    """What was found in one file."""

    opset: int
    """The newest one of ONNX's own operators that the model or a function in it imports; 0 if none."""
    domains: frozenset[str]
    external_data: bool


def onnx_facts(data: bytes) -> OnnxFacts:
    """Read opset, operator domains and use of external data; ValueError if the bytes are no ONNX model."""
    opset, domains, external, graphs = 0, set[str](), False, 0
    pending = [("model", memoryview(data))]
    while pending:
        kind, message = pending.pop()
        domain, version = "", 0
        for number, value in _fields(message):
            if isinstance(value, memoryview):
                if part := PARTS[kind].get(number):
                    pending.append((part, value))
                if (kind, number) in {("node", NODE_DOMAIN), ("opset", OPSET_DOMAIN)}:
                    domain = bytes(value).decode("utf-8", "replace")
                graphs += (kind, number) == ("model", MODEL_GRAPH)
                external |= (kind, number) == ("tensor", TENSOR_EXTERNAL)
            elif (kind, number) == ("opset", OPSET_VERSION):
                version = value
            elif (kind, number) == ("tensor", TENSOR_LOCATION):
                external |= value != 0
        if kind == "node":
            domains.add(domain)
        elif kind == "opset" and domain in ("", "ai.onnx"):
            opset = max(opset, version)
    if graphs != 1:
        raise ValueError("not an ONNX model: it holds no graph")
    return OnnxFacts(opset, frozenset(domains), external)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one protobuf message: (number, integer or bytes). Numbers of fixed width are left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("not an ONNX model: unknown protobuf wire type")
        if at + size > len(message):
            raise ValueError("not an ONNX model: it ends in the middle of a field")
        if wire == 2:
            yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not an ONNX model: a number does not end")
