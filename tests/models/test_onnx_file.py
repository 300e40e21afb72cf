"""Facts about ONNX files that the onnx package wrote, and about bytes that are no ONNX file."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.onnx_file import onnx_facts


def model(*nodes: onnx.NodeProto, opset: int = 17, initializers: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def relu(domain: str = "") -> onnx.NodeProto:
    return helper.make_node("Relu", ["x"], ["y"], domain=domain)


def external(name: str = "weights") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    return tensor


def sparse(values: TensorProto) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "indices"), [1])


def branches(node: onnx.NodeProto) -> onnx.NodeProto:
    body = helper.make_graph([node], "body", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    return helper.make_node("If", ["condition"], ["y"], then_branch=body, else_branch=body)


def test_a_plain_model_is_read():
    weights = numpy_helper.from_array(np.ones(1, np.float32), "w")

    assert onnx_facts(model(relu(), opset=17, initializers=(weights,)).SerializeToString()) == (17, {""}, False)


def test_the_newest_import_of_onnx_counts_also_inside_functions():
    twice = model(relu())
    twice.opset_import.append(helper.make_opsetid("ai.onnx", 19))
    twice.opset_import.append(helper.make_opsetid("other", 99))
    function = helper.make_function("local", "f", ["x"], ["y"], [relu()], [helper.make_opsetid("", 24)])
    with_function = model(relu())
    with_function.functions.append(function)

    assert onnx_facts(twice.SerializeToString()).opset == 19
    assert onnx_facts(with_function.SerializeToString()).opset == 24


def test_operators_of_other_domains_are_found_wherever_they_are():
    function = helper.make_function("local", "f", ["x"], ["y"], [relu("deep")], [helper.make_opsetid("", 17)])
    with_function = model(relu("com.microsoft"), branches(branches(relu("nested"))))
    with_function.functions.append(function)

    assert onnx_facts(with_function.SerializeToString()).domains == {"", "com.microsoft", "nested", "deep"}


def constant(**attributes: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], **attributes)


@pytest.mark.parametrize(
    "hiding",
    [
        model(relu(), initializers=(external(),)),
        model(constant(value=external())),
        model(constant(sparse_value=sparse(external()))),
        model(branches(constant(value=external()))),
    ],
    ids=["initializer", "attribute", "sparse attribute", "branch"],
)
def test_weights_in_other_files_are_found_wherever_they_are(hiding):
    assert onnx_facts(hiding.SerializeToString()).external_data


def test_external_weights_in_sparse_initializers_functions_and_training_info_are_found():
    in_sparse, in_function, in_training = model(relu()), model(relu()), model(relu())
    in_sparse.graph.sparse_initializer.append(sparse(external()))
    function = helper.make_function("local", "f", [], ["y"], [], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("default", external()))
    in_function.functions.append(function)
    in_training.training_info.add().algorithm.initializer.append(external())

    assert [onnx_facts(m.SerializeToString()).external_data for m in (in_sparse, in_function, in_training)] == [
        True
    ] * 3


def test_deep_nesting_is_read_to_its_end():
    # written by hand: protobuf itself refuses to serialise this depth
    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    node = field(7, b"evil")
    for _ in range(1500):
        node = field(5, field(6, field(1, node)))  # attribute, its graph, its node

    assert "evil" in onnx_facts(field(7, field(1, node))).domains


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\x08\x08", b"{}", model(relu()).SerializeToString()[:-9], b"\x3a\xff\xff"]
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="not an ONNX model"):
        onnx_facts(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ValueError):
        assert onnx_facts(data).opset >= 0


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_model_with_a_changed_byte_is_read_or_refused(position, byte):
    data = bytearray(model(branches(constant(value=external()))).SerializeToString())
    data[position % len(data)] = byte

    with contextlib.suppress(ValueError):
        assert onnx_facts(bytes(data)).opset >= 0
