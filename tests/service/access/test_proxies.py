from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.proxies import Edge, edge_of, outermost

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def scope(peer: str | None, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    return {
        "type": "http",
        "scheme": scheme,
        "client": None if peer is None else (peer, 1234),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }


FORWARDED = (
    ("Host", "inner"),
    ("X-Forwarded-For", "198.51.100.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "ward.example"),
)


@pytest.mark.parametrize("peer", ["10.1.2.3", "2001:db8::5", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    assert edge_of(scope(peer, *FORWARDED), TRUSTED) == Edge("198.51.100.7", "https", "ward.example")


@pytest.mark.parametrize("peer", ["11.0.0.1", "2001:db9::1", "unix", None])
def test_anybody_else_is_not(peer: str | None) -> None:
    assert edge_of(scope(peer, *FORWARDED), TRUSTED) == Edge(peer or "", "http", "inner")


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert edge_of(scope("127.0.0.1", *FORWARDED), ()) == Edge("127.0.0.1", "http", "inner")


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.9", "198.51.100.7"], "198.51.100.7"),  # the first was written by the client itself
        (["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (["10.0.0.3", "10.0.0.2"], "10.0.0.3"),
        (["198.51.100.7", "rubbish"], "10.1.2.3"),
        (["rubbish", "10.0.0.2"], "10.0.0.2"),
        (["198.51.100.7:4711"], "198.51.100.7"),
        (["[2001:db9::7]:4711"], "2001:db9::7"),
        ([""], "10.1.2.3"),
        ([], "10.1.2.3"),
    ],
)
def test_of_a_chain_only_what_trusted_proxies_wrote_counts(forwarded: list[str], client: str) -> None:
    headers = [("X-Forwarded-For", value) for value in forwarded]

    assert edge_of(scope("10.1.2.3", *headers), TRUSTED).client == client


@pytest.mark.parametrize(
    ("scheme", "proto", "seen"),
    [
        ("ws", None, "http"),
        ("wss", None, "https"),
        ("ws", "wss", "https"),
        ("https", "gopher", "https"),
        ("http", "http, HTTPS", "https"),
    ],
)
def test_the_scheme_is_that_of_the_nearest_proxy(scheme: str, proto: str | None, seen: str) -> None:
    headers = [] if proto is None else [("X-Forwarded-Proto", proto)]

    assert edge_of(scope("10.1.2.3", *headers, scheme=scheme), TRUSTED).scheme == seen


@given(
    st.lists(st.ip_addresses().map(str) | st.text(max_size=5), max_size=5),
    st.ip_addresses(network="10.0.0.0/8"),
)
def test_what_a_client_writes_before_its_own_address_changes_nothing(lies: list[str], proxy: Any) -> None:
    assert outermost(proxy, [*lies, "198.51.100.7"], TRUSTED) == ip_address("198.51.100.7")
