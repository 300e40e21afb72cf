"""Graphs in onnxruntime: which device runs them, and one runner a graph that takes arrays by modality.

A device that was asked for is used or refused, never replaced without a word.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.manifest import GraphSpec

CUDA: Final = "CUDAExecutionProvider"
CPU: Final = "CPUExecutionProvider"
BUCKETS: Final = (1, 2, 4, 8, 16, 32)
"""Batch sizes on CUDA; others are padded to the next one, since each new shape costs the device a search of its own."""
CPU_MAX_BATCH: Final = 8
"""On a CPU a larger batch only makes others wait for longer."""
DTYPES: Final = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}

IDENTITY: Final = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02"
    "080142040a001011"
)
"""ONNX, opset 17: y = Identity(x), float32 (1,). Running it shows whether a device works."""

Arrays = Mapping[str, NDArray[np.generic]]


class ProvidersError(ValueError):
    """A device that was asked for is not there, or does not work."""


class GraphError(ValueError):
    """onnxruntime cannot load a graph, or its inputs are not what the manifest says."""


@dataclass(frozen=True)
class Providers:
    """Execution providers in order of preference; the first one must really run the graphs."""

    names: tuple[str, ...]

    @classmethod
    def choose(cls, asked: Sequence[str] = ()) -> Self:
        """`asked` as it is, or ProvidersError; where nothing is asked, CUDA if a device works, else the CPU."""
        offered = onnxruntime.get_available_providers()
        if missing := [name for name in asked if name not in offered]:
            raise ProvidersError(f"{', '.join(missing)} not installed; there are {', '.join(offered)}")
        if CUDA in (asked or offered):
            onnxruntime.preload_dlls()  # finds the CUDA libraries that pip installed
        if asked:
            chosen = cls(tuple(asked))
            if reason := chosen.failure():
                raise ProvidersError(f"{asked[0]} does not work here: {reason}; there are {', '.join(offered)}")
            return chosen
        cuda = cls((CUDA, CPU))
        return cuda if CUDA in offered and cuda.failure() is None else cls((CPU,))

    @property
    def on_gpu(self) -> bool:
        """Whether the first provider is CUDA."""
        return self.names[0] == CUDA

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes to warm up; the last is the largest that a batcher should form."""
        return BUCKETS if self.on_gpu else (1, CPU_MAX_BATCH)

    def failure(self) -> str | None:
        """Why the first provider cannot run a graph; None if it can."""
        try:
            session = open_session(IDENTITY, self, intra_op_threads=1)
            session.run(None, {"x": np.ones(1, np.float32)})
        except Exception as error:  # onnxruntime's errors share no base of their own
            return str(error)
        return None

    def with_options(self) -> list[tuple[str, dict[str, str]]]:
        """Names and options as onnxruntime takes them."""
        cuda = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
        return [(name, cuda if name == CUDA else {}) for name in self.names]


def open_session(model: bytes | Path, providers: Providers, *, intra_op_threads: int) -> Any:
    """An onnxruntime session that really runs on the first provider; ProvidersError if it would run elsewhere."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3  # what matters is raised
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        options,
        providers=providers.with_options(),
        enable_fallback=0,
    )
    if (got := session.get_providers()[0]) != providers.names[0]:
        raise ProvidersError(f"onnxruntime fell back to {got}: {providers.names[0]} or its libraries do not work here")
    return session


class WarmUp(NamedTuple):
    """What the first runs took."""

    slowest_batch_s: float
    seconds_per_item: float
    """In the largest batch."""


class GraphRunner:
    """One graph on one device. May be called from several threads."""

    def __init__(
        self, model: bytes | Path, graph: GraphSpec, *, providers: Providers, intra_op_threads: int, key: str = ""
    ) -> None:
        try:
            self.session = open_session(model, providers, intra_op_threads=intra_op_threads)
        except ProvidersError:
            raise
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise GraphError(f"{graph.file}: onnxruntime cannot load it: {error}") from error
        self.key = key or graph.file
        """Names the graph where time is estimated and measured."""
        self.graph = graph
        self.buckets = BUCKETS if providers.on_gpu else ()
        self.batch_sizes = providers.batch_sizes
        self.warm_up = WarmUp(0.0, 0.0)
        self.declared = {fed.name: fed for fed in self.session.get_inputs()}
        if set(self.declared) != set(graph.inputs.values()):
            raise GraphError(
                f"{graph.file}: takes {', '.join(sorted(self.declared))}, "
                f"but the manifest feeds {', '.join(sorted(graph.inputs.values()))}"
            )
        if unknown := sorted(fed.type for fed in self.declared.values() if fed.type not in DTYPES):
            raise GraphError(f"{graph.file}: has an input of {unknown[0]}; expected {' or '.join(DTYPES)}")
        if graph.output not in (names := [given.name for given in self.session.get_outputs()]):
            raise GraphError(f"{graph.file}: has no output {graph.output!r}, only {', '.join(names)}")

    def run(self, inputs: Arrays) -> NDArray[np.generic]:
        """Output (batch, ...) of one array (batch, ...) per modality.

        ValueError where a modality is missing, too many, or of another dtype or shape than the graph takes.
        """
        size = self.check(inputs)
        if not self.buckets:
            return self.run_checked(inputs)
        largest = self.buckets[-1]
        parts = []
        for start in range(0, size, largest):
            part = {modality: array[start : start + largest] for modality, array in inputs.items()}
            count = min(largest, size - start)
            bucket = next(bucket for bucket in self.buckets if bucket >= count)
            parts.append(self.run_checked({m: pad(array, bucket) for m, array in part.items()})[:count])
        return np.concatenate(parts)

    def run_checked(self, inputs: Arrays) -> NDArray[np.generic]:
        feeds = {self.graph.inputs[modality]: array for modality, array in inputs.items()}
        output: NDArray[np.generic] = self.session.run([self.graph.output], feeds)[0]
        return output

    def check(self, inputs: Arrays) -> int:
        """The batch size; ValueError where the arrays do not fit the graph."""
        if set(inputs) != set(self.graph.inputs):
            raise ValueError(f"the graph takes {sorted(self.graph.inputs)}; got {sorted(inputs)}")
        for modality, array in inputs.items():
            declared = self.declared[self.graph.inputs[modality]]
            shape = ["batch", *declared.shape[1:]]
            fits = array.ndim == len(shape) and all(
                size == expected or not isinstance(expected, int)
                for size, expected in zip(array.shape, shape, strict=True)
            )
            if array.dtype != DTYPES[declared.type] or not fits:
                raise ValueError(
                    f"{modality}: expected {DTYPES[declared.type]} {tuple(shape)}; got {array.dtype} {array.shape}"
                )
        sizes = {len(array) for array in inputs.values()}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(f"expected one batch size of at least 1 for all modalities; got {sorted(sizes)}")
        return sizes.pop()

    def warm(self, example: Arrays) -> WarmUp:
        """Run every batch size that will be served, from rows of `example`; keeps and returns what it took."""
        slowest_s = last_s = 0.0
        for size in self.batch_sizes:
            batch = {modality: np.resize(array, (size, *array.shape[1:])) for modality, array in example.items()}
            for _ in range(2):  # the first run allocates, the second shows the speed
                began = time.perf_counter()
                self.run(batch)
                last_s = time.perf_counter() - began
                slowest_s = max(slowest_s, last_s)
        self.warm_up = WarmUp(slowest_s, last_s / self.batch_sizes[-1])
        return self.warm_up


def pad(array: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """Repeat the last row until there are `size` rows."""
    return array if len(array) == size else np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
