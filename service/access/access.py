"""What the settings say of access, read and checked once: who may enter, and with what."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

from starlette.types import Scope

from service.access.hosts import is_allowed_host, is_allowed_origin
from service.access.keyring import KeyRing
from service.access.keys import ApiKey, KeysError
from service.access.proxies import Edge, Headers, edge_of, values
from service.access.tls import TlsError, load_certificate, tls_context
from service.context import RequestContext
from service.errors import ForeignOrigin, MisdirectedRequest
from service.settings import Settings, SettingsError

PROBES: Final = ("/health/", "/v2/health/", "/metrics")
"""For balancers, orchestrators and scrapers: these have no key, and call a replica by its address."""
OPEN: Final = (*PROBES, "/admin/", "/docs", "/openapi.json", "/static-offline-docs/", "/page/", "/favicon.ico")
"""What needs no API key: pages and their files, and /admin, which has a token of its own. All else does."""

logger = logging.getLogger("pkdot")


class TlsFiles(NamedTuple):
    """Where a certificate and its private key are."""

    certificate: Path
    key: Path


class Access:
    """One app's rules. Raises SettingsError where a file that they need is missing or wrong."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tls_files = tls_files(settings)
        try:
            self.keys = KeyRing(settings.api_keys_file) if settings.api_keys_file else None
            self.tls = tls_context(*self.tls_files) if self.tls_files else None
        except (KeysError, TlsError) as error:
            raise SettingsError(told(error)) from error

    def reload(self) -> None:
        """Read the files of keys and certificates again. Raises SettingsError, with nothing changed."""
        try:
            found = [] if self.keys is None else self.keys.found()
            if self.tls is not None and self.tls_files is not None:
                load_certificate(self.tls, *self.tls_files)
        except (KeysError, TlsError) as error:
            raise SettingsError(told(error)) from error
        if self.keys is not None:
            self.keys.take(found)

    def reload_or_log(self) -> None:
        """The same for a signal, to which nobody listens."""
        try:
            self.reload()
        except SettingsError as error:
            logger.error("keys and certificates are as they were: %s", error)

    def check(self, scope: Scope) -> Edge:
        """Who is at the other end. Raises MisdirectedRequest, and ForeignOrigin for a stream."""
        edge = edge_of(scope, self.settings.trusted_proxies)
        if not is_allowed_host(edge.host, self.settings.allowed_hosts) and not is_below(scope["path"], PROBES):
            raise MisdirectedRequest(
                "the service does not go by the name in the Host header; use one of those that its operator has listed"
            )
        if scope["type"] == "websocket":
            self.check_origin(values(scope["headers"], b"origin"), edge)
        return edge

    def check_origin(self, origins: list[str], edge: Edge) -> None:
        """Programs that are no browsers send none."""
        if any(not is_allowed_origin(origin, edge, self.settings.allowed_origins) for origin in origins):
            raise ForeignOrigin(
                "pages of this origin may not open streams; the service's own may, and those in PKDOT_ALLOWED_ORIGINS"
            )

    def welcome(self, token: str | None, context: RequestContext) -> None:
        """Let `context` know whose request or stream it is. Raises what `admitted` does, where it may not come in."""
        if self.keys is not None:
            self.keys.welcome(recognised(self.keys, token, context))

    def still_admits(self, context: RequestContext) -> None:
        """Raise Unauthenticated where the key that came with `context` is none any more: streams may outlast keys."""
        if self.keys is not None:
            self.keys.require(context.caller)

    def admitted(
        self, token: str | None, context: RequestContext, expects: Callable[[str], bool] = lambda _: False
    ) -> AbstractContextManager[None]:
        """One request or stream of the key that `token` is; `context` knows whose it is from now on.

        `expects` tells of its caller whether it is to come in beyond the key's limit too. Without a file of keys
        everybody is admitted. Raises Unauthenticated and RateLimited.
        """
        if self.keys is None:
            return nullcontext()
        key = recognised(self.keys, token, context)
        return self.keys.admitted(key, expected=expects(key.caller))


def recognised(keys: KeyRing, token: str | None, context: RequestContext) -> ApiKey:
    """The key of `token`, which the log is to name also where it has too many requests. Raises Unauthenticated."""
    key = keys.key_of(token)
    context.caller, context.key_name = key.caller, key.name
    return key


def tls_files(settings: Settings) -> TlsFiles | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(settings.tls_cert_file, settings.tls_key_file)


def told(error: KeysError | TlsError) -> str:
    """Which setting is wrong, and how."""
    if isinstance(error, KeysError):
        return f"the file that PKDOT_API_KEYS_FILE names is not possible: {error}"
    return f"PKDOT_TLS_CERT_FILE and PKDOT_TLS_KEY_FILE are not possible: {error}"


def is_open(path: str) -> bool:
    """Whether what is at `path` needs no key."""
    return path == "/" or is_below(path, OPEN)


def is_below(path: str, places: tuple[str, ...]) -> bool:
    """A place that ends in a slash is a folder; any other is one address."""
    return any(path.startswith(place) if place.endswith("/") else path == place for place in places)


def bearer_token(headers: Headers) -> str | None:
    """The token of the one Authorization header; None where there is none, several, or another scheme."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, token = given[0].decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
