"""By which names the service may be called, and which pages may call it."""

from collections.abc import Collection
from typing import Final

from service.access.proxies import Edge

ALLOWED_METHODS: Final = ("GET", "HEAD", "POST")
ALLOWED_HEADERS: Final = (
    *("Authorization", "Content-Type", "Idempotency-Key", "Inference-Header-Content-Length"),
    *("X-Request-ID", "X-Request-Timeout", "traceparent", "tracestate"),
)
EXPOSED_HEADERS: Final = ("Inference-Header-Content-Length", "Retry-After", "Server-Timing", "X-Request-ID")
"""What pages of PKDOT_ALLOWED_ORIGINS may send, and may read."""
USUAL_PORTS: Final = {"http": ":80", "https": ":443"}
"""A browser leaves them out of an origin (RFC 6454, section 6.2); a proxy may name them in the host."""


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without its port.

    >>> host_name("Ward.Example:8000"), host_name("[::1]:8000"), host_name("ward.example.")
    ('ward.example', '[::1]', 'ward.example')
    """
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower().removesuffix(".")


def is_allowed_host(host: str, allowed: Collection[str]) -> bool:
    """Whether `host` is one of these; `*.example.org` is every name below example.org. With none, all are."""
    if not allowed:
        return True
    name = host_name(host)
    return any(name == entry or (entry.startswith("*.") and name.endswith(entry[1:])) for entry in allowed)


def is_allowed_origin(origin: str, edge: Edge, allowed: Collection[str]) -> bool:
    """Whether a page of `origin` may open a stream: the service's own may, and those that are listed."""
    hosts = (edge.host, edge.host.removesuffix(USUAL_PORTS[edge.scheme]))
    own = [f"{edge.scheme}://{host}".lower() for host in hosts]
    return bool(edge.host) and (origin.lower() in own or origin.lower() in allowed)
