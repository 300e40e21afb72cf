"""Who asks, as seen from outside: X-Forwarded-* counts where a trusted proxy wrote it, and is nothing otherwise."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

from starlette.types import Scope

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Headers = Sequence[tuple[bytes, bytes]]
SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Edge(NamedTuple):
    """The outer end of a connection."""

    client: str
    """Address; empty where it is not known."""
    scheme: str
    """`http` or `https`, for WebSockets too."""
    host: str
    """Host and port as the client named them."""


def edge_of(scope: Scope, trusted: Sequence[Network]) -> Edge:
    """The edge of an HTTP or WebSocket scope."""
    headers: Headers = scope["headers"]
    peer = scope["client"][0] if scope.get("client") else ""
    edge = Edge(peer, SCHEMES[scope["scheme"]], last(headers, b"host"))
    address = parse(peer) if trusted else None
    if address is None or not is_trusted(address, trusted):
        return edge
    scheme, host = last(headers, b"x-forwarded-proto").lower(), last(headers, b"x-forwarded-host")
    forwarded = values(headers, b"x-forwarded-for")
    return Edge(str(outermost(address, forwarded, trusted)), SCHEMES.get(scheme, edge.scheme), host or edge.host)


def outermost(peer: Address, forwarded: Sequence[str], trusted: Sequence[Network]) -> Address:
    """The last address, seen from here, that a trusted proxy vouches for; what lies before it anybody can write."""
    client = peer
    for entry in reversed(forwarded):
        address = parse(entry)
        if address is None:
            break
        client = address
        if not is_trusted(address, trusted):
            break
    return client


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def parse(text: str) -> Address | None:
    """An address, with a port or without; an IPv4 address in IPv6's clothes is an IPv4 address.

    >>> parse("[2001:db8::1]:443"), parse("::ffff:192.0.2.1"), parse("unknown")
    (IPv6Address('2001:db8::1'), IPv4Address('192.0.2.1'), None)
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def values(headers: Headers, name: bytes) -> list[str]:
    """What all headers of that name list, in order."""
    joined = b",".join(value for key, value in headers if key == name).decode("latin-1")
    return [part.strip() for part in joined.split(",") if part.strip()]


def last(headers: Headers, name: bytes) -> str:
    """What the nearest proxy, or the client itself, wrote; empty where there is nothing."""
    return (values(headers, name) or [""])[-1]
