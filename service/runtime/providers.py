"""Which device runs the graphs, and onnxruntime's sessions on it.

A device that was asked for is used or refused, never replaced without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import onnxruntime

from service.runtime.provider_options import CPU, CUDA, TENSORRT, Options, RuntimeOptions, provider_options

IDENTITY: Final = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02"
    "080142040a001011"
)
"""ONNX, opset 17: y = Identity(x), float32 (1,). Running it shows whether a device works."""

AS_REQUESTED: Final = 1
"""onnxruntime's kSameAsRequested."""


class ProvidersError(ValueError):
    """A device that was asked for is not there, or does not work."""


@dataclass(frozen=True)
class Providers:
    """Execution providers in order of preference; the first one must really run the graphs."""

    names: tuple[str, ...]
    devices: tuple[int, ...] = (0,)
    """Numbers of the devices that compute; on a CPU each of them is one more set of sessions."""
    options: RuntimeOptions = field(default_factory=RuntimeOptions)

    @classmethod
    def choose(
        cls,
        asked: Sequence[str] = (),
        *,
        devices: Sequence[int] = (0,),
        options: RuntimeOptions = RuntimeOptions(),  # noqa: B008, it is frozen
    ) -> Self:
        """`asked` as it is, or ProvidersError; where nothing is asked, CUDA if a device works, else the CPU."""
        offered = onnxruntime.get_available_providers()
        if missing := [name for name in asked if name not in offered]:
            raise ProvidersError(f"{', '.join(missing)} not installed; there are {', '.join(offered)}")
        if {CUDA, TENSORRT} & set(asked or offered):
            onnxruntime.preload_dlls()  # finds the CUDA libraries that pip installed
        if asked:
            chosen = cls(tuple(asked), tuple(devices), options)
            if reason := chosen.failure():
                raise ProvidersError(f"{asked[0]} does not work here: {reason}; there are {', '.join(offered)}")
            return chosen
        cuda = cls((CUDA, CPU), tuple(devices), options)
        return cuda if CUDA in offered and cuda.failure() is None else cls((CPU,), tuple(devices), options)

    @property
    def on_gpu(self) -> bool:
        """Whether the first provider computes on a GPU."""
        return self.names[0] in (CUDA, TENSORRT)

    def failure(self) -> str | None:
        """Why the first provider cannot run a graph on every device; None if it can."""
        try:
            for device in self.devices:
                open_session(IDENTITY, self, intra_op_threads=1, device=device).run(None, {"x": np.ones(1, np.float32)})
        except Exception as error:  # onnxruntime's errors share no base of their own
            return str(error)
        return None

    def with_options(
        self, device: int = 0, *, graph_key: str = "probe", profile: Options | None = None
    ) -> list[tuple[str, Options]]:
        """Names and options as onnxruntime takes them."""
        return [
            (name, provider_options(name, device, self.options, graph_key=graph_key, profile=profile or {}))
            for name in self.names
        ]


def open_session(
    model: bytes | Path,
    providers: Providers,
    *,
    intra_op_threads: int,
    device: int = 0,
    graph_key: str = "probe",
    profile: Options | None = None,
) -> Any:
    """An onnxruntime session that really runs on the first provider; ProvidersError if it would run elsewhere."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # threads of one run do not sleep between two operators, which would take as long as many an operator; between
    # runs all of them sleep
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if intra_op_threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if not providers.on_gpu:
        share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3  # what matters is raised
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        options,
        providers=providers.with_options(device, graph_key=graph_key, profile=profile),
        enable_fallback=0,
    )
    if (got := session.get_providers()[0]) != providers.names[0]:
        raise ProvidersError(f"onnxruntime fell back to {got}: {providers.names[0]} or its libraries do not work here")
    return session


@cache
def share_arena() -> None:
    """Give the sessions on the CPU one arena, which grows by what is asked for and no more.

    Else each has its own, which doubles, and together they hold what no two runs need at once.
    """
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(
        place, onnxruntime.OrtArenaCfg({"max_mem": 0, "arena_extend_strategy": AS_REQUESTED})
    )
