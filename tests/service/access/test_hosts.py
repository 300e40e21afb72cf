import pytest

from service.access.hosts import is_allowed_host, is_allowed_origin
from service.access.proxies import Edge

ALLOWED = ("ward.example", "*.clinic.example", "10.0.0.5", "[::1]")


@pytest.mark.parametrize(
    "host",
    [
        "ward.example",
        "WARD.example:8000",
        "ward.example.",
        "a.clinic.example",
        "a.b.clinic.example",
        "10.0.0.5:80",
        "[::1]",
    ],
)
def test_a_listed_name_is_the_services(host: str) -> None:
    assert is_allowed_host(host, ALLOWED)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "ward.example.evil.example",
        "evilward.example",
        "clinic.example",
        "10.0.0.50",
        "[::2]",
        "::1",
    ],
)
def test_any_other_name_is_not(host: str) -> None:
    assert not is_allowed_host(host, ALLOWED)


def test_without_a_list_every_name_is() -> None:
    assert is_allowed_host("", ())
    assert is_allowed_host("anything", ())


@pytest.mark.parametrize(
    ("scheme", "host", "allowed"),
    [
        ("https", "ward.example", True),
        ("https", "ward.example:443", True),
        ("https", "ward.example:80", False),
        ("http", "ward.example:80", False),
        ("https", "ward.example.evil.example:443", False),
    ],
)
def test_a_host_with_the_usual_port_is_that_of_an_origin_without(scheme: str, host: str, allowed: bool) -> None:
    assert is_allowed_origin("https://ward.example", Edge("", scheme, host), ()) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://ward.example:8443", True),
        ("HTTPS://WARD.example:8443", True),
        ("https://desk.example", True),
        ("http://ward.example:8443", False),
        ("https://ward.example", False),
        ("https://desk.example.evil.example", False),
        ("http://desk.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_page_is_the_services_own_or_listed(origin: str, allowed: bool) -> None:
    edge = Edge("198.51.100.7", "https", "Ward.example:8443")

    assert is_allowed_origin(origin, edge, ("https://desk.example",)) is allowed


def test_a_client_that_names_no_host_owns_no_page() -> None:
    assert not is_allowed_origin("http://", Edge("", "http", ""), ())
