"""Graphs in onnxruntime: one runner a graph, which takes arrays by modality and knows which batches are useful."""

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.manifest import GraphSpec
from service.runtime.cancellation import Cancellation, RunCancelled
from service.runtime.device import Tell, stack
from service.runtime.provider_options import CPU, TENSORRT, Options, shape_profile
from service.runtime.providers import Providers, ProvidersError, open_session
from service.runtime.warm_up import WarmUp, in_turns, one_by_one

BUCKETS: Final = (1, 2, 4, 8, 16, 32)
"""Batch sizes on a GPU; others are padded to the next one, since each new shape costs it a search of its own."""
DTYPES: Final = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}

Arrays = Mapping[str, NDArray[np.generic]]


class GraphError(ValueError):
    """onnxruntime cannot load a graph, or its inputs are not what the manifest says."""


def batch_profile(model: bytes | Path) -> Options:
    """TensorRT's shape profile of a graph over all buckets, from its inputs as the CPU reads them."""
    session = open_session(model, Providers((CPU,)), intra_op_threads=1)
    return shape_profile({fed.name: fed.shape[1:] for fed in session.get_inputs()}, BUCKETS)


class GraphRunner:
    """One graph on one device, with its twins on the others. May be called from several threads."""

    def __init__(
        self,
        model: bytes | Path,
        graph: GraphSpec,
        *,
        providers: Providers,
        intra_op_threads: int,
        lone_threads: int = 1,
        key: str = "",
        device: int | None = None,
    ) -> None:
        """`lone_threads` are those of a run that is alone; where they are more, that takes a second session."""
        self.key = key or graph.file
        """Names the graph where time is estimated and measured."""
        self.device = providers.devices[0] if device is None else device
        try:
            self.session = open_session(
                model,
                providers,
                intra_op_threads=intra_op_threads,
                device=self.device,
                graph_key=self.key,
                profile=batch_profile(model) if TENSORRT in providers.names else None,
            )
        except ProvidersError:
            raise
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise GraphError(f"{graph.file}: onnxruntime cannot load it: {error}") from error
        self.graph = graph
        self.on_gpu = providers.on_gpu
        self.buckets = BUCKETS if providers.on_gpu else ()
        self.bound_to = "cuda" if providers.on_gpu else None
        """Where inputs are copied to before a run; None where they are read in place."""
        self.warm_up = WarmUp()
        self.declared = {fed.name: fed for fed in self.session.get_inputs()}
        if set(self.declared) != set(graph.inputs.values()):
            raise GraphError(
                f"{graph.file}: takes {', '.join(sorted(self.declared))}, "
                f"but the manifest feeds {', '.join(sorted(graph.inputs.values()))}"
            )
        if unknown := sorted(fed.type for fed in self.declared.values() if fed.type not in DTYPES):
            raise GraphError(f"{graph.file}: has an input of {unknown[0]}; expected {' or '.join(DTYPES)}")
        names = [given.name for given in self.session.get_outputs()]
        for output in (graph.output, *graph.uncertainty.values()):
            if output not in names:
                raise GraphError(f"{graph.file}: has no output {output!r}, only {', '.join(names)}")
        self.watch: Callable[[Arrays], None] | None = None
        """Told what the T-Nets expect of their errors, (batch,) by modality, after each run; None: nobody asks."""
        others = providers.devices[1:] if device is None else ()
        like = partial(GraphRunner, model, graph, providers=providers, key=self.key)
        self.lone: GraphRunner | None = (
            like(intra_op_threads=lone_threads, lone_threads=lone_threads, device=self.device)
            if lone_threads > intra_op_threads
            else None
        )
        """What runs alone here, with more threads; None where it has no more."""
        self.twins: tuple[GraphRunner, ...] = tuple(
            like(intra_op_threads=intra_op_threads, lone_threads=lone_threads, device=other) for other in others
        )

    def on_device(self, index: int, *, alone: bool = False) -> "GraphRunner":
        """The same graph on the device of this place in `Providers.devices`; this one on the first.

        `alone` where nothing else runs there.
        """
        runner = self if index == 0 else self.twins[index - 1]
        return runner.lone if alone and runner.lone is not None else runner

    def watch_all(self, watch: Callable[[Arrays], None] | None) -> None:
        """Set `watch` here, for lone runs, and on the other devices."""
        self.watch = watch
        for other in (self.lone, *self.twins):
            if other is not None:
                other.watch_all(watch)

    def run(self, inputs: Arrays, cancel: Cancellation | None = None, tell: Tell | None = None) -> NDArray[np.generic]:
        """Output (batch, ...) of one array (batch, ...) per modality; `tell` as `service.runtime.device.Runner` has it.

        ValueError where a modality is missing, too many, or of another dtype or shape than the graph takes, and
        RunCancelled where `cancel` was asked before the end.
        """
        watch = self.watch
        return self.run_parts(inputs, cancel, [] if watch is None else [watch] if tell is None else [watch, tell])

    def prove(self, inputs: Arrays, cancel: Cancellation | None = None) -> NDArray[np.generic]:
        """`run` of golden inputs: nobody asked for them, so nobody is told of them."""
        return self.run_parts(inputs, cancel, [])

    def run_parts(self, inputs: Arrays, cancel: Cancellation | None, listeners: Sequence[Tell]) -> NDArray[np.generic]:
        size = self.check(inputs)
        largest = self.buckets[-1] if self.buckets else self.warm_up.useful_batch if self.warm_up.times else size
        if size <= largest:
            return self.run_part(inputs, size, cancel, listeners)
        parts = []
        for start in range(0, size, largest):  # so that memory is bounded, whatever a caller brings
            part = {modality: array[start : start + largest] for modality, array in inputs.items()}
            parts.append(self.run_part(part, min(largest, size - start), cancel, listeners))
        return np.concatenate(parts)

    def run_part(
        self, inputs: Arrays, size: int, cancel: Cancellation | None, listeners: Sequence[Tell]
    ) -> NDArray[np.generic]:
        """`run` of no more than the graph takes at once."""
        if not self.buckets or size in self.buckets:
            return self.run_watched(inputs, cancel, size, listeners)
        bucket = next(bucket for bucket in self.buckets if bucket > size)
        return self.run_watched({m: pad(array, bucket) for m, array in inputs.items()}, cancel, size, listeners)[:size]

    def run_watched(
        self, inputs: Arrays, cancel: Cancellation | None, count: int, listeners: Sequence[Tell]
    ) -> NDArray[np.generic]:
        """The output for arrays of which the first `count` rows are asked for, and the others pad."""
        if not listeners:
            return self.run_checked(inputs, cancel)
        expected = self.graph.uncertainty
        output, *rows = self.run_outputs([self.graph.output, *expected.values()], inputs, cancel)
        measured = {modality: row[:count] for modality, row in zip(expected, rows, strict=True)}
        for listener in listeners:
            listener(measured)
        return output

    def run_checked(self, inputs: Arrays, cancel: Cancellation | None = None) -> NDArray[np.generic]:
        return self.run_outputs([self.graph.output], inputs, cancel)[0]

    def run_outputs(
        self, names: Sequence[str], inputs: Arrays, cancel: Cancellation | None
    ) -> list[NDArray[np.generic]]:
        feeds = {self.graph.inputs[modality]: array for modality, array in inputs.items()}
        options = None if cancel is None else cancel.options
        try:
            if self.bound_to is not None:
                return self.run_bound(names, feeds, self.bound_to, options)
            outputs: list[NDArray[np.generic]] = self.session.run(names, feeds, options)
        except Exception as error:  # onnxruntime's errors share no base of their own
            if cancel is not None and cancel.recognises(error):
                raise RunCancelled from None
            raise
        return outputs

    def run_bound(self, names: Sequence[str], feeds: Arrays, place: str, options: Any) -> list[NDArray[np.generic]]:
        """Copy each input to the device as it is, bytes as bytes, and only these outputs back."""
        binding = self.session.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), place, self.device)
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name)
        self.session.run_with_iobinding(binding, options)
        outputs: list[NDArray[np.generic]] = binding.copy_outputs_to_cpu()
        return outputs

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
        """Run every batch size that may be served, from rows of `example`; keeps and returns what it took.

        On a CPU sizes are tried as long as they gain anything, and the memory of the largest is given back.
        """
        windows = [{name: array[n % len(array)] for name, array in example.items()} for n in range(BUCKETS[-1])]
        measure = one_by_one if self.on_gpu else in_turns
        self.warm_up = measure(lambda size: self.timed(windows[:size]), BUCKETS)
        if not self.on_gpu:
            self.release_memory(example)
        if self.lone is not None:  # to run it once is enough, which is done where it is proven
            self.lone.warm_up = self.warm_up
        for twin in self.twins:
            twin.warm(example)
        return self.warm_up

    def timed(self, windows: Sequence[Arrays]) -> float:
        """Seconds of a run, with what it takes to bring the windows of several requests together."""
        began_s = time.perf_counter()
        self.run(stack(windows))
        return time.perf_counter() - began_s

    def release_memory(self, example: Arrays) -> None:
        """Shrink the CPU's arena to what one item needs, and give free pages back to the system."""
        shrinking = Cancellation()
        shrinking.options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.run({modality: array[:1] for modality, array in example.items()}, shrinking)
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)


def pad(array: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """Repeat the last row until there are `size` rows."""
    return array if len(array) == size else np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
