"""The service's settings: one frozen model. `service.environment` reads it."""

import re
import tempfile
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from service.bundles.candidates import Candidates
from service.runtime.provider_options import CudnnSearch

TEXTS: Final = frozenset(
    {
        *("bundles", "host", "cudnn_search", "cache_dir", "canary", "shadow", "admin_token", "admin_token_file"),
        *("api_keys_file", "tls_cert_file", "tls_key_file", "sandbox", "spool_dir", "log_format"),
    }
)
"""Settings that are as if unset where they are empty, as compose files leave them."""


def matching(pattern: str, expected: str) -> AfterValidator:
    """Text that is as `pattern` as a whole; else the error says in words what was `expected`."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(check)


Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
HostName = Annotated[
    str,
    matching(
        r"(\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\]",
        "names without scheme and port, as ward.example, *.clinic.example, 10.0.0.5 or [::1]; leave it empty for any",
    ),
]
Origin = Annotated[
    str,
    matching(
        r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?",
        "origins, a scheme and a host without a path or a final slash, as https://desk.example or http://10.0.0.5:8080",
    ),
]
Address = Annotated[str, matching(r"(https?://\S+)?", "an address, as http://collector:4318")]


def temporary_folder() -> Path:
    """The system's; where there is none that can be written, which matters to an upload only, its usual place."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/tmp")


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
    devices: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        default=(0,), description="Numbers of the GPUs that compute, separated by commas; they share one queue."
    )
    gpu_memory_bytes: Positive | None = Field(
        default=None, description="Most memory that onnxruntime takes on each GPU; empty: all there is."
    )
    cudnn_search: CudnnSearch = Field(
        default="HEURISTIC", description="How cuDNN chooses its convolutions; EXHAUSTIVE tries each at warm-up."
    )
    cache_dir: Path | None = Field(
        default=None, description="Folder for what is kept between starts: TensorRT's engines; empty: nothing is kept."
    )

    canary: Candidates | None = Field(
        default=None,
        description="FOLDER@SHARE: the bundle there, or each bundle there, answers this share of the requests to the "
        "bundle of its name.",
    )
    shadow: Candidates | None = Field(
        default=None,
        description="FOLDER@SHARE: the bundle there also runs on this share of the windows that the bundle of its name "
        "answered; the difference is a metric.",
    )
    admin_token: SecretStr | None = Field(default=None, description="Opens POST /admin/bundles/reload to its bearers.")
    admin_token_file: Path | None = Field(default=None, description="File that holds the admin token.")

    api_keys_file: Path | None = Field(
        default=None, description="File of API keys, made with `pkdot keys new`; empty: nobody is asked for a key."
    )
    allowed_hosts: tuple[HostName, ...] = Field(
        default=(),
        description="Names by which the service may be called, without ports, separated by commas; *.example.org is "
        "every name below example.org; empty: any.",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Addresses or networks of balancers whose X-Forwarded-For, -Proto and -Host are believed.",
    )
    allowed_origins: tuple[Origin, ...] = Field(
        default=(),
        description="Origins, as https://ward.example, whose pages may call the service from browsers, beside its own.",
    )
    tls_cert_file: Path | None = Field(
        default=None, description="PEM file of the certificate and its chain; with the key's file it turns on TLS."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM file of the certificate's private key.")

    max_upload_bytes: Positive = Field(default=512 << 20, description="Largest request body.")
    max_duration_s: Seconds = Field(default=900.0, description="Longest recording.")
    max_pixels: Annotated[int, Field(gt=0, le=1 << 28)] = Field(  # a decoder's child has to hold a few such frames
        default=4096 * 4096, description="Most pixels of a frame or picture."
    )
    max_frames: Positive = Field(default=36_000, description="Most frames of a video, or pictures in `frames`.")
    max_windows: Positive = Field(default=5_000, description="Most windows of one answer; bounds a small `hop_s`.")
    max_faces: Positive = Field(default=8, description="Most faces that are followed with `face=all`.")

    sandbox: Literal["require", "auto", "off"] = Field(
        default="auto",
        description="How recordings are decoded: `require` refuses to start without limits, no_new_privs, and Landlock "
        "or seccomp; `auto` takes what the system has; `off` decodes in the service itself.",
    )
    max_decoder_memory_bytes: Annotated[int, Field(gt=0, le=1 << 40)] = Field(  # the kernel's own limit has a sign
        default=2 << 30, description="Most memory that decoding one recording may take, in a sandbox."
    )

    spool_dir: Path = Field(default_factory=temporary_folder, description="Folder for uploads that outgrow the memory.")
    spool_memory_bytes: Annotated[int, Field(ge=0)] = Field(
        default=1 << 20, description="Bytes of one upload that are kept in memory before a file is used."
    )
    max_spool_bytes: Positive = Field(default=4 << 30, description="Bytes of all uploads at once, in memory and files.")
    min_upload_bytes_per_s: Annotated[int, Field(ge=0)] = Field(
        default=16_000, description="An upload that is slower than this is given up."
    )
    slow_upload_after_s: Seconds = Field(default=10.0, description="The time over which an upload's speed is measured.")

    max_concurrent_requests: Positive = Field(default=64, description="Predictions at work at once, uploads included.")
    max_streams: Positive = Field(default=16, description="Live streams open at once; each has a thread of its own.")
    max_stream_message_bytes: Positive = Field(default=2 << 20, description="Largest message of a stream.")
    max_queue_s: Seconds = Field(
        default=30.0, description="Refuse a request if the queue alone would make it wait longer."
    )
    latency_objective_s: Seconds = Field(
        default=0.05, description="How long a batch may take; the load report for balancers is relative to it."
    )
    request_timeout_s: Seconds = Field(default=120.0, description="Time for a request without X-Request-Timeout.")
    max_request_timeout_s: Seconds = Field(default=600.0, description="Most that X-Request-Timeout can ask for.")
    idempotency_s: Seconds = Field(
        default=600.0, description="How long the answer to an Idempotency-Key is kept for a repeat."
    )
    max_idempotent_entries: Positive = Field(default=10_000, description="Most keys that are remembered.")
    max_idempotent_bytes: Positive = Field(default=64 << 20, description="Most bytes of answers that are kept.")

    log_format: Literal["text", "json"] = Field(
        default="text", description="`json` writes the log as an object a line, for machines."
    )
    otlp_endpoint: Address = Field(
        default="",
        description="Address of an OpenTelemetry collector, as http://collector:4318; empty: no spans are made.",
    )
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

    @model_validator(mode="after")
    def the_usual_time_is_no_longer_than_the_longest(self) -> Self:
        if "request_timeout_s" in self.model_fields_set and self.request_timeout_s > self.max_request_timeout_s:
            raise ValueError(
                f"PKDOT_REQUEST_TIMEOUT_S ({self.request_timeout_s:g}) must be at most PKDOT_MAX_REQUEST_TIMEOUT_S "
                f"({self.max_request_timeout_s:g}); raise that too"
            )
        return self

    @model_validator(mode="after")
    def there_is_one_admin_token(self) -> Self:
        if self.admin_token is not None and self.admin_token_file is not None:
            raise ValueError("set either PKDOT_ADMIN_TOKEN or PKDOT_ADMIN_TOKEN_FILE, not both")
        return self

    @model_validator(mode="after")
    def a_certificate_has_its_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("set both PKDOT_TLS_CERT_FILE and PKDOT_TLS_KEY_FILE, or neither")
        return self

    @model_validator(mode="before")
    @classmethod
    def empty_is_unset(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != "" or name not in TEXTS}

    @field_validator("gpu_memory_bytes", mode="before")
    @classmethod
    def empty_is_no_limit(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("providers", "devices", "allowed_hosts", "trusted_proxies", "allowed_origins", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def lower_case(cls, value: object) -> object:
        return tuple(part.lower() for part in value) if isinstance(value, tuple) else value
