"""What browsers are told not to do with the answers."""

from collections.abc import Iterable
from typing import Final

HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
EVERYWHERE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
PERMISSIONS: Final = (
    b"permissions-policy",
    b"camera=(self), microphone=(self), display-capture=(), geolocation=(), payment=(), usb=()",
)
OPENER: Final = (b"cross-origin-opener-policy", b"same-origin")
CSP: Final = b"content-security-policy"
DATA_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
"""Of what is no page: shown by itself, it can load and run nothing."""
PAGE_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    b"connect-src 'self'; font-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
"""Of a page that brings no policy of its own: everything from this service, and no inline script or style."""


def security_headers(given: Iterable[tuple[bytes, bytes]], *, over_tls: bool) -> list[tuple[bytes, bytes]]:
    """What an answer with the headers `given` needs beside them. HSTS counts over TLS only."""
    always = (*EVERYWHERE, HSTS) if over_tls else EVERYWHERE
    return [*always, *policies(dict(given))]


def policies(given: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What the kind of answer needs beside the headers that it has."""
    if not given.get(b"content-type", b"").startswith(b"text/html"):
        return [(CSP, DATA_POLICY)] if CSP not in given else []
    return [PERMISSIONS, OPENER, *([(CSP, PAGE_POLICY)] if CSP not in given else [])]
