"""TensorFlow Lite graphs of the face nets, rewritten as ONNX with a free batch size.

Covers the operators that BlazeFace and the face mesh use, and refuses any other by name. Weights that are stored as
float16 or sparse become dense float32. TensorFlow Lite keeps pictures as (N, H, W, C) and ONNX as (N, C, H, W): inside
the graph every rank-4 tensor is NCHW; the input and the outputs stay NHWC, as in the original.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 10
INPUT = "image"
NHWC_TO_NCHW = (0, 3, 1, 2)
NCHW_TO_NHWC = (0, 2, 3, 1)
OPERATOR_NAMES: dict[int, str] = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
DTYPES: dict[int, type[np.generic]] = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
INDEX_VECTORS: dict[int, Any] = {
    tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
    tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
    tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
}

Array = NDArray[Any]


def to_onnx(flatbuffer: bytes, outputs: Sequence[str]) -> onnx.ModelProto:
    """Rewrite one .tflite file.

    `outputs` names the results in the file's own order. The only input, `image`, is float32 (batch, H, W, 3), as in the
    file. Raises ValueError where the file uses an operator, a type or an option that is not covered.
    """
    model = tflite.Model.GetRootAs(flatbuffer)
    graph = Rewrite(model)
    source = model.Subgraphs(0)
    for position in range(source.OperatorsLength()):
        graph.add(source.Operators(position))
    return graph.finish(outputs)


class Rewrite:
    """The nodes and weights gathered while the operators are walked in their order of execution."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.source = model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.folded: dict[int, Array] = {}
        """Results that are known while rewriting: weights after DENSIFY and DEQUANTIZE."""
        self.emit("Transpose", [INPUT], self.name(self.source.Inputs(0)), perm=NHWC_TO_NCHW)

    def add(self, operator: Any) -> None:
        """Append the nodes of one operator."""
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        kind = OPERATOR_NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        ins, out = operator.InputsAsNumpy().tolist(), operator.Outputs(0)
        match kind:
            case "DENSIFY" | "DEQUANTIZE":
                self.folded[out] = self.constant(ins[0]).astype(DTYPES[self.source.Tensors(out).Type()])
            case "CONV_2D":
                # weights: (out, h, w, in) -> (out, in, h, w)
                self.convolution(options(operator, tflite.Conv2DOptions), ins, out, NHWC_TO_NCHW)
            case "DEPTHWISE_CONV_2D":
                # weights: (1, h, w, channels) -> (channels, 1, h, w)
                self.convolution(options(operator, tflite.DepthwiseConv2DOptions), ins, out, (3, 0, 1, 2))
            case "MAX_POOL_2D":
                self.max_pool(options(operator, tflite.Pool2DOptions), ins[0], out)
            case "RELU":
                self.emit("Relu", [self.name(ins[0])], self.name(out))
            case "PRELU":
                self.prelu(self.name(ins[0]), self.constant(ins[1]).transpose(2, 0, 1), out)  # (1, 1, C) -> (C, 1, 1)
            case "ADD":
                activation = options(operator, tflite.AddOptions).FusedActivationFunction()
                self.emit_activated("Add", [self.name(i) for i in ins], out, activation)
            case "PAD":
                pads = self.constant(ins[1])[list(NHWC_TO_NCHW)].T.ravel().astype(np.int64)  # all starts, then all ends
                self.emit("Pad", [self.name(ins[0]), self.weight(out, "pads", pads)], self.name(out))
            case "RESIZE_BILINEAR":
                self.resize(options(operator, tflite.ResizeBilinearOptions), ins[0], out)
            case "DEPTH_TO_SPACE":
                block = options(operator, tflite.DepthToSpaceOptions).BlockSize()
                self.emit("DepthToSpace", [self.name(ins[0])], self.name(out), blocksize=block, mode="DCR")
            case "RESHAPE":
                shape = self.weight(out, "shape", np.array([0, *self.shape(out)[1:]], np.int64))  # 0: keep the batch
                self.emit("Reshape", [self.channels_last(ins[0]), shape], self.name(out))
            case "CONCATENATION":
                axis = options(operator, tflite.ConcatenationOptions).Axis()
                expect("CONCATENATION of rank-3 tensors", all(len(self.shape(i)) == 3 for i in ins))
                self.emit("Concat", [self.name(i) for i in ins], self.name(out), axis=axis)
            case _:
                raise ValueError(f"cannot rewrite the operator {kind}; add it to {__name__}")

    def convolution(self, settings: Any, ins: Sequence[int], out: int, weight_axes: tuple[int, ...]) -> None:
        kernel = self.constant(ins[1]).transpose(weight_axes)
        depthwise = kernel.shape[1] == 1 and weight_axes != NHWC_TO_NCHW
        expect("depth multiplier 1", not depthwise or settings.DepthMultiplier() == 1)
        expect("no dilation", settings.DilationHFactor() == settings.DilationWFactor() == 1)
        strides = (settings.StrideH(), settings.StrideW())
        inputs = [
            self.name(ins[0]),
            self.weight(out, "kernel", kernel),
            self.weight(out, "bias", self.constant(ins[2])),
        ]
        self.emit_activated(
            "Conv",
            inputs,
            out,
            settings.FusedActivationFunction(),
            group=kernel.shape[0] if depthwise else 1,
            strides=strides,
            pads=self.pads(settings, ins[0], out, kernel.shape[2:], strides),
        )

    def prelu(self, source: str, slope: Array, out: int) -> None:
        """As slope * x + (1 - slope) * relu(x).

        The PRelu of onnxruntime 1.31 branches at each number; the landmark net took 3.4 ms with it, and 1.4 ms so.
        """
        name = self.name(out)
        self.emit("Relu", [source], f"{name}_positive")
        self.emit("Mul", [source, self.weight(out, "slope", slope)], f"{name}_sloped")
        self.emit("Mul", [f"{name}_positive", self.weight(out, "rest", 1 - slope)], f"{name}_corrected")
        self.emit("Add", [f"{name}_sloped", f"{name}_corrected"], name)

    def max_pool(self, settings: Any, source: int, out: int) -> None:
        kernel = (settings.FilterHeight(), settings.FilterWidth())
        strides = (settings.StrideH(), settings.StrideW())
        expect("no activation in MAX_POOL_2D", settings.FusedActivationFunction() == 0)
        pads = self.pads(settings, source, out, kernel, strides)
        self.emit("MaxPool", [self.name(source)], self.name(out), kernel_shape=kernel, strides=strides, pads=pads)

    def resize(self, settings: Any, source: int, out: int) -> None:
        expect("half-pixel centres", settings.HalfPixelCenters() and not settings.AlignCorners())
        height, width = np.divide(self.shape(out), self.shape(source))[1:3]
        scales = self.weight(out, "scales", np.array([1, 1, height, width], np.float32))
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self.emit("Resize", [self.name(source), "", scales], self.name(out), **mode)

    def pads(
        self, settings: Any, source: int, out: int, kernel: Sequence[int], strides: Sequence[int]
    ) -> tuple[int, int, int, int]:
        """(top, left, bottom, right). SAME puts the odd pixel at the end, so it depends on the size of the input."""
        if settings.Padding() == tflite.Padding.VALID:
            return (0, 0, 0, 0)
        sizes = zip(self.shape(source)[1:3], self.shape(out)[1:3], kernel, strides, strict=True)
        top_bottom, left_right = (max((after - 1) * step + reach - before, 0) for before, after, reach, step in sizes)
        return (top_bottom // 2, left_right // 2, top_bottom - top_bottom // 2, left_right - left_right // 2)

    def emit(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))

    def emit_activated(self, kind: str, inputs: Sequence[str], out: int, activation: int, **attributes: Any) -> None:
        if activation == tflite.ActivationFunctionType.NONE:
            self.emit(kind, inputs, self.name(out), **attributes)
            return
        expect("RELU as the fused activation", activation == tflite.ActivationFunctionType.RELU)
        before = f"{self.name(out)}_linear"
        self.emit(kind, inputs, before, **attributes)
        self.emit("Relu", [before], self.name(out))

    def channels_last(self, tensor: int) -> str:
        """The name under which `tensor` can be read in the original's order of axes."""
        if len(self.shape(tensor)) != 4:
            return self.name(tensor)
        name = f"{self.name(tensor)}_nhwc"
        self.emit("Transpose", [self.name(tensor)], name, perm=NCHW_TO_NHWC)
        return name

    def weight(self, out: int, role: str, values: Array) -> str:
        name = f"{self.name(out)}_{role}"
        self.weights[name] = np.ascontiguousarray(values)
        return name

    def constant(self, tensor: int) -> Array:
        """Values that are in the file, or were computed from such."""
        if tensor in self.folded:
            return self.folded[tensor]
        described = self.source.Tensors(tensor)
        values = np.frombuffer(self.model.Buffers(described.Buffer()).DataAsNumpy().tobytes(), DTYPES[described.Type()])
        if described.Sparsity() is not None:
            return dense(values, described.Sparsity(), self.shape(tensor))
        return values.reshape(self.shape(tensor))

    def name(self, tensor: int) -> str:
        return f"t{tensor}"

    def shape(self, tensor: int) -> tuple[int, ...]:
        """As the file says: (1, H, W, C) for a picture."""
        return tuple(self.source.Tensors(tensor).ShapeAsNumpy().tolist())

    def finish(self, outputs: Sequence[str]) -> onnx.ModelProto:
        results = []
        for tensor, name in zip(self.source.OutputsAsNumpy().tolist(), outputs, strict=True):
            self.emit("Identity", [self.channels_last(tensor)], name)
            results.append(float_value(name, self.shape(tensor)))
        weights = [numpy_helper.from_array(values, name) for name, values in self.weights.items()]
        image = float_value(INPUT, self.shape(self.source.Inputs(0)))
        graph = helper.make_graph(self.nodes, "face", [image], results, weights)
        opset = helper.make_opsetid("", OPSET)
        model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


def float_value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    info: onnx.ValueInfoProto = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape[1:]])
    return info


def options(operator: Any, kind: Any) -> Any:
    """The operator's settings, read as the table `kind`."""
    settings, table = kind(), operator.BuiltinOptions()
    settings.Init(table.Bytes, table.Pos)
    return settings


def dense(values: Array, sparsity: Any, shape: tuple[int, ...]) -> Array:
    """Fill in a tensor whose last axis is stored as compressed sparse rows and whose other axes are whole."""
    levels = [sparsity.DimMetadata(axis) for axis in range(sparsity.DimMetadataLength())]
    compressed = [level.Format() == tflite.DimensionType.SPARSE_CSR for level in levels]
    in_order = sparsity.TraversalOrderAsNumpy().tolist() == list(range(len(shape)))
    expect("sparse rows in the last axis only", in_order and compressed == [False] * (len(shape) - 1) + [True])
    starts = index_vector(levels[-1].ArraySegments(), levels[-1].ArraySegmentsType())
    columns = index_vector(levels[-1].ArrayIndices(), levels[-1].ArrayIndicesType())
    filled = np.zeros((len(starts) - 1, shape[-1]), values.dtype)
    filled[np.repeat(np.arange(len(starts) - 1), np.diff(starts)), columns] = values
    return filled.reshape(shape)


def index_vector(table: Any, kind: int) -> NDArray[np.int64]:
    vector = INDEX_VECTORS[kind]()
    vector.Init(table.Bytes, table.Pos)
    values: NDArray[np.int64] = vector.ValuesAsNumpy().astype(np.int64)
    return values


def expect(what: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"cannot rewrite this net: expected {what}")
