"""The service's settings: one frozen model, and the only place that reads `PKDOT_*` variables."""

import difflib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PREFIX: Final = "PKDOT_"
KUBERNETES_PREFIXES: Final = ("PKDOT_SERVICE_", "PKDOT_PORT_")
"""What Kubernetes sets for a service that is called pkdot; beside these, PKDOT_PORT=tcp://…"""
OTHER_VARIABLES: Final = frozenset({"PKDOT_FACE_WHEEL_DIR", "PKDOT_CACHE_DIR"})
"""Known, and without effect here: the first is read by the installation of the face nets, the second by training."""

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SettingsError(ValueError):
    """A setting is missing or has an impossible value; the message names the variable."""


class Settings(BaseModel):
    """Every limit and place of the service. A field `x_y` is set by the variable `PKDOT_X_Y`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: Path = Field(description="Folder that holds one bundle or several.")
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="Port to listen on; 0 takes a free one."
    )
    providers: tuple[str, ...] = Field(
        default=(),
        description="onnxruntime execution providers, in order, separated by commas; empty: the best there is.",
    )

    max_upload_bytes: Positive = Field(default=512 << 20, description="Largest request body.")
    max_duration_s: Seconds = Field(default=900.0, description="Longest recording.")
    max_pixels: Positive = Field(default=4096 * 4096, description="Most pixels of a frame or picture.")
    max_frames: Positive = Field(default=36_000, description="Most frames of a video, or pictures in `frames`.")
    max_windows: Positive = Field(default=5_000, description="Most windows of one answer; bounds a small `hop_s`.")

    sandbox: Literal["require", "auto", "off"] = Field(
        default="auto",
        description="How recordings are decoded: `require` refuses to start without limits, no_new_privs, and Landlock "
        "or seccomp; `auto` takes what the system has; `off` decodes in the service itself.",
    )
    max_decoder_memory_bytes: Positive = Field(
        default=2 << 30, description="Most memory that decoding one recording may take, in a sandbox."
    )

    spool_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()), description="Folder for uploads that outgrow the memory."
    )
    spool_memory_bytes: Annotated[int, Field(ge=0)] = Field(
        default=1 << 20, description="Bytes of one upload that are kept in memory before a file is used."
    )
    max_spool_bytes: Positive = Field(default=4 << 30, description="Bytes of all uploads at once, in memory and files.")
    min_upload_bytes_per_s: Annotated[int, Field(ge=0)] = Field(
        default=16_000, description="An upload that is slower than this is given up."
    )
    slow_upload_after_s: Seconds = Field(default=10.0, description="The time over which an upload's speed is measured.")

    max_concurrent_requests: Positive = Field(default=64, description="Predictions at work at once, uploads included.")
    max_queue_s: Seconds = Field(
        default=30.0, description="Refuse a request if the queue alone would make it wait longer."
    )
    latency_objective_s: Seconds = Field(
        default=0.05, description="Wished-for time in the queue; the load report for balancers is relative to it."
    )
    request_timeout_s: Seconds = Field(default=120.0, description="Time for a request without X-Request-Timeout.")
    max_request_timeout_s: Seconds = Field(default=600.0, description="Most that X-Request-Timeout can ask for.")
    drain_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=5.0, description="After SIGTERM: how long to go on serving while /health/ready fails."
    )

    @model_validator(mode="after")
    def the_largest_upload_fits_the_spool(self) -> Self:
        if self.max_spool_bytes < self.max_upload_bytes:
            raise ValueError(
                f"PKDOT_MAX_SPOOL_BYTES ({self.max_spool_bytes}) must be at least PKDOT_MAX_UPLOAD_BYTES "
                f"({self.max_upload_bytes})"
            )
        return self

    @field_validator("providers", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


class Reading(NamedTuple):
    """Settings, and what was odd about where they came from."""

    settings: Settings
    warnings: list[str]


def read_settings(environment: Mapping[str, str], **overrides: Any) -> Reading:
    """Settings from `PKDOT_*` variables; an override that is not None (a command-line option) goes first.

    An unknown variable is a warning that names the nearest known one. Raises SettingsError.
    """
    given, warnings = {}, []
    known = {variable(name): name for name in Settings.model_fields}
    for key, value in environment.items():
        if not key.startswith(PREFIX) or key in OTHER_VARIABLES or is_kubernetes(key, value):
            continue
        if key in known:
            given[known[key]] = value
        else:
            warnings.append(f"{key} is not a setting of pkdot and has no effect{suggestion(key, known)}")
    given |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Reading(Settings.model_validate(given), sorted(warnings))
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise SettingsError(first["msg"].removeprefix("Value error, ")) from None
        name = variable(str(first["loc"][0]))
        if first["type"] == "missing":
            raise SettingsError(f"{name} is not set; name a folder of bundles with it, or with --bundles") from None
        raise SettingsError(f"{name}={first['input']!r} is not possible: {first['msg']}") from None


def variable(field: str) -> str:
    """The environment variable of a field.

    >>> variable("max_upload_bytes")
    'PKDOT_MAX_UPLOAD_BYTES'
    """
    return PREFIX + field.upper()


def is_kubernetes(key: str, value: str) -> bool:
    return key.startswith(KUBERNETES_PREFIXES) or (key == "PKDOT_PORT" and "://" in value)


def suggestion(key: str, known: Mapping[str, str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def settings_table() -> str:
    """One line a variable, with its default: the end of `pkdot serve --help`."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        default = "empty" if default == () else default
        lines.append(f"  {variable(name)} ({default}): {field.description}")
    return "\n".join(lines)
