"""What an inference request asks of a bundle. Everything is checked here that can be known before the tensors come."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.manifest import GraphSpec
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.errors import FieldError, InvalidField, NotFound, TooLarge
from service.oip.datatypes import OF_INPUTS, Datatype
from service.oip.messages import InferRequest, InputTensor
from service.oip.outputs import output_specs
from service.runtime.runner import GraphRunner
from service.uploads.upload import Piece


class Input(NamedTuple):
    """One tensor; its `shape`, with the batch axis, is the graph's."""

    modality: str
    datatype: Datatype
    shape: tuple[int, ...]
    missing_allowed: bool
    """Whether NaN says that a value is missing."""
    binary: Piece | None
    """Where it lies behind the JSON; None if `data` holds it."""
    data: Any


class Output(NamedTuple):
    """A tensor that is asked for."""

    name: str
    binary: bool


class Call(NamedTuple):
    """A request that the bundle can answer."""

    bundle: LoadedBundle
    graph: GraphSpec
    runner: GraphRunner
    inputs: Sequence[Input]
    batch: int
    outputs: Sequence[Output]
    id: str | None
    timeout_s: float
    """Infinity where the request names none."""

    @property
    def binary_bytes(self) -> int:
        """What lies behind the JSON."""
        return sum(one.binary.size for one in self.inputs if one.binary is not None)


def find(shelf: BundleShelf, name: str, version: str | None) -> LoadedBundle:
    """The loaded bundle of this name and version; NotFound, which names those that are loaded."""
    for loaded in shelf.answering():
        if loaded.name == name and version in (None, loaded.bundle.version):
            return loaded
    known = ", ".join(f"{loaded.name} (version {loaded.bundle.version})" for loaded in shelf.answering())
    asked = f"{name!r:.80}" if version is None else f"{name!r:.80} of version {version!r:.32}"
    raise NotFound(f"no model {asked} is loaded; there is {known}")


def understand(request: InferRequest, bundle: LoadedBundle, *, max_batch: int) -> Call:
    """Raises InvalidField with everything that is wrong, and TooLarge for a batch over `max_batch`."""
    graph, runner = choose_graph([one.name for one in request.inputs], bundle)
    errors: list[FieldError] = []
    inputs = []
    position = 0
    for tensor in request.inputs:
        one = understand_input(tensor, bundle, position, errors)
        position += one.binary.size if one.binary is not None else 0
        inputs.append(one)
    batches = {tensor.shape[0] for tensor in request.inputs if tensor.shape}
    if not errors and len(batches) > 1:
        errors.append(FieldError("inputs", f"must have one batch size; got {sorted(batches)}"))
    outputs = understand_outputs(request, bundle, graph, errors)
    if errors:
        raise InvalidField(errors)
    batch = inputs[0].shape[0]
    if batch > max_batch:
        raise TooLarge(f"a batch of {batch} windows is over the limit of {max_batch}; send several requests")
    timeout_us = request.parameters.timeout
    timeout_s = math.inf if timeout_us is None else timeout_us / 1e6
    return Call(bundle, graph, runner, inputs, batch, outputs, request.id, timeout_s)


def choose_graph(names: Sequence[str], bundle: LoadedBundle) -> tuple[GraphSpec, GraphRunner]:
    """The graph that takes exactly these modalities; none is dropped without a word."""
    found = bundle.runner_for(frozenset(names))
    if found is None or sorted(found[0].available) != sorted(names):
        sets = " or ".join("{" + ", ".join(graph.available) + "}" for graph in bundle.bundle.manifest.graphs)
        given = ", ".join(f"{name:.40}" for name in names)
        raise InvalidField([FieldError("inputs", f"must be {sets}, each once; got {{{given}}}")])
    return found


def understand_input(tensor: InputTensor, bundle: LoadedBundle, position: int, errors: list[FieldError]) -> Input:
    """One input, whose bytes begin `position` bytes behind the JSON; what is wrong with it goes to `errors`."""
    spec = bundle.bundle.manifest.inputs
    window, datatype = spec.shape(tensor.name), OF_INPUTS[spec.dtype(tensor.name)]
    shape, size = tuple(tensor.shape), tensor.parameters.binary_data_size
    expected_bytes = math.prod(shape) * datatype.dtype.itemsize
    wrong = None
    if tensor.datatype != datatype.name:
        wrong = f"must be {datatype.name}; got {tensor.datatype:.40}"
    elif shape[1:] != window or shape[:1] < (1,):
        expected = ", ".join(str(axis) for axis in window)
        wrong = f"must have the shape [batch, {expected}] with a batch of at least 1; got {list(shape)}"
    elif (size is None) == (tensor.data is None):
        wrong = "needs either `data`, or the parameter `binary_data_size` and its bytes behind the JSON"
    elif size is not None and size != expected_bytes:
        wrong = f"has {expected_bytes} bytes by its shape, but its binary_data_size is {size}"
    if wrong is not None:
        errors.append(FieldError(tensor.name, wrong))
    piece = None if size is None else Piece(position, size)
    return Input(tensor.name, datatype, shape, tensor.name in spec.features, piece, tensor.data)


def understand_outputs(
    request: InferRequest, bundle: LoadedBundle, graph: GraphSpec, errors: list[FieldError]
) -> list[Output]:
    """Those that are named, else all; each in the form that is asked for."""
    offered = [spec.name for spec in output_specs(bundle.bundle.manifest, [graph])]
    default = request.parameters.binary_data_output
    if not request.outputs:
        return [Output(name, default) for name in offered]
    names = [wanted.name for wanted in request.outputs]
    for name in dict.fromkeys(names):
        if name not in offered:
            errors.append(FieldError("outputs", f"may be {', '.join(offered)}; got {name:.40}"))
        elif names.count(name) > 1:
            errors.append(FieldError("outputs", f"name {name} more than once"))
    return [
        Output(wanted.name, default if wanted.parameters.binary_data is None else wanted.parameters.binary_data)
        for wanted in request.outputs
    ]
