import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.access.access import Access
from service.access.keys import new_key
from service.probe import is_alive
from service.settings import Settings, SettingsError
from tests import loopback

Open = Callable[[Settings], AbstractContextManager[Any]]
Make = Callable[..., Any]


@pytest.fixture
def files(make_certificate: Make) -> Any:
    return make_certificate()


@pytest.fixture
def settings(bundles_folder: Path, files: Any) -> Settings:
    return Settings(bundles=bundles_folder, port=0, tls_cert_file=files.certificate, tls_key_file=files.key)


def connect(port: int, trusted: Path | None, version: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=trusted)
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60), server_hostname="localhost")


def test_the_service_answers_over_tls_with_hsts(settings: Settings, files: Any, open_server: Open, clips: Path) -> None:
    with open_server(settings) as live:
        trusted = ssl.create_default_context(cafile=files.certificate)
        with httpx2.Client(base_url=f"https://localhost:{live.port}", verify=trusted, timeout=60) as client:
            reply = client.post("/predict/pain", files={"frames": (clips / "single_face.jpg").read_bytes()})

    assert reply.status_code == 200
    assert reply.headers["strict-transport-security"] == "max-age=31536000"


def test_tls_is_1_2_or_newer_and_the_certificate_is_the_one_that_was_given(
    settings: Settings, files: Any, open_server: Open
) -> None:
    with open_server(settings) as live:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with connect(live.port, files.certificate, version) as connection:
                assert connection.version() == version.name.replace("v1_", "v1.")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError):
            connect(live.port, files.certificate, ssl.TLSVersion.TLSv1_1)
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(live.port, None)


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"rubbish\r\n\r\n"],
)
def test_broken_http_over_tls_gets_its_400_and_an_end(
    settings: Settings, files: Any, open_server: Open, sent: bytes
) -> None:
    with open_server(settings) as live, connect(live.port, files.certificate) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert connection.recv(4096) == b""


def test_a_client_that_breaks_off_over_tls_leaves_nothing_behind(
    settings: Settings, files: Any, open_server: Open, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    head = b"POST /predict/pain HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=e\r\n"
    with open_server(settings) as live:
        admission = live.server.lifecycle.resources.admission
        with connect(live.port, files.certificate) as connection:
            connection.sendall(head + b"Content-Length: 5000\r\n\r\n--e\r\n")
            eventually(lambda: admission.at_work == 1)
        eventually(lambda: admission.at_work == 0)
        assert not admission.places


def test_plain_http_on_the_port_of_tls_is_closed(settings: Settings, open_server: Open) -> None:
    with open_server(settings) as live, pytest.raises(httpx2.TransportError):
        loopback.get(f"http://127.0.0.1:{live.port}/health/live")


def test_a_renewed_certificate_is_used_from_the_next_connection_on(
    settings: Settings, files: Any, make_certificate: Make, open_server: Open, caplog: pytest.LogCaptureFixture
) -> None:
    renewed = make_certificate("renewed")
    with open_server(settings) as live:
        files.certificate.write_bytes(renewed.certificate.read_bytes())
        live.server.access.reload_or_log()  # the key is still the old one's
        assert "keys and certificates are as they were" in caplog.text
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(live.port, renewed.certificate)

        files.key.write_bytes(renewed.key.read_bytes())
        live.server.access.reload()
        with connect(live.port, renewed.certificate) as connection:
            peer = connection.getpeercert()
            assert peer is not None
            assert peer["subject"] == ((("commonName", "renewed"),),)


def test_a_wrong_certificate_leaves_the_keys_as_they_were(settings: Settings, files: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(new_key("first")[1].line(), encoding="utf-8")
    access = Access(settings.model_copy(update={"api_keys_file": keys}))
    keys.write_text(new_key("second")[1].line(), encoding="utf-8")
    right = files.certificate.read_bytes()
    files.certificate.write_bytes(b"rubbish")
    assert access.keys is not None

    with pytest.raises(SettingsError, match="certificate"):
        access.reload()
    assert [key.name for key in access.keys.keys] == ["first"]

    files.certificate.write_bytes(right)
    access.reload()
    assert [key.name for key in access.keys.keys] == ["second"]


def test_what_cannot_be_used_is_a_wrong_setting(
    tmp_path: Path, files: Any, make_certificate: Make, bundles_folder: Path
) -> None:
    other, locked = make_certificate("other"), make_certificate("locked", password=b"open-sesame")
    for certificate, key, sentence in (
        (files.certificate, other.key, "cannot be used together: key values mismatch"),
        (locked.certificate, locked.key, "the key is encrypted"),
        (files.certificate, tmp_path / "none", "cannot be read: No such file"),
        (files.key, files.key, "cannot be used together"),
    ):
        settings = Settings(bundles=bundles_folder, tls_cert_file=certificate, tls_key_file=key)
        with pytest.raises(SettingsError, match=sentence) as caught:
            Access(settings)
        assert str(tmp_path) not in str(caught.value)


def test_a_certificate_without_its_key_is_a_wrong_setting(files: Any, bundles_folder: Path) -> None:
    with pytest.raises(ValueError, match="set both PKDOT_TLS_CERT_FILE and PKDOT_TLS_KEY_FILE, or neither"):
        Settings(bundles=bundles_folder, tls_cert_file=files.certificate)


def test_the_health_check_of_the_image_knows_what_kubernetes_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Connection:
        def __init__(self, host: str, port: int, **_: Any) -> None:
            asked.append((host, port))

        def request(self, *_: str) -> None:
            raise OSError

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setattr("http.client.HTTPConnection", Connection)
    for given in ({"PKDOT_PORT": "tcp://10.0.0.1:9000"}, {"PKDOT_PORT": ""}, {}, {"PKDOT_PORT": "9000"}):
        assert not is_alive(given)

    assert asked == [*3 * [("127.0.0.1", 8000), "closed"], ("127.0.0.1", 9000), "closed"]


def test_the_health_check_of_the_image_follows_to_tls(
    settings: Settings, files: Any, open_server: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.probe.TIMEOUT_S", 60.0)
    with open_server(settings) as live:
        port = str(live.port)
        assert is_alive({"PKDOT_PORT": port, "PKDOT_TLS_CERT_FILE": str(files.certificate)})
        assert not is_alive({"PKDOT_PORT": port})
    assert not is_alive({"PKDOT_PORT": port, "PKDOT_TLS_CERT_FILE": str(files.certificate)})
