import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.access.headers import PAGE_POLICY, policies
from service.settings import Settings

Open = Callable[[Settings], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def client(bundles_folder: Path, open_client: Open) -> Iterator[TestClient]:
    with open_client(Settings(bundles=bundles_folder)) as client:
        yield client


@pytest.mark.parametrize("path", ["/models", "/health/live", "/metrics", "/docs", "/openapi.json", "/nothing", "/v2"])
def test_every_answer_has_the_headers_once(client: TestClient, path: str) -> None:
    headers = client.get(path).headers

    for name, value in (
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ):
        assert headers.get_list(name) == [value]
    (policy,) = headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "strict-transport-security" not in headers


def test_the_documentation_runs_its_own_script_by_hash_and_no_other_inline_one(client: TestClient) -> None:
    reply = client.get("/docs")
    scripts = re.search(r"script-src ([^;]+);", reply.headers["content-security-policy"])
    inline = re.findall(r"<script>(.*?)</script>", reply.text, re.DOTALL)

    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
    assert len(hashes) == 1
    assert scripts is not None
    assert scripts[1].split() == ["'self'", *(f"'sha256-{digest}'" for digest in hashes)]
    assert reply.headers["permissions-policy"].startswith("camera=(self), microphone=(self)")
    assert "access-control" not in str(reply.headers)


def test_a_page_may_bring_its_own_policy_and_gets_the_strict_one_otherwise() -> None:
    html = {b"content-type": b"text/html; charset=utf-8"}

    assert (b"content-security-policy", PAGE_POLICY) in policies(html)
    own = policies(html | {b"content-security-policy": b"default-src 'self'"})
    assert [name for name, _ in own] == [b"permissions-policy", b"cross-origin-opener-policy"]
    assert b"unsafe" not in PAGE_POLICY


def test_the_documentation_asks_for_a_key_where_one_is_needed(
    bundles_folder: Path, open_client: Open, keys: Any, client: TestClient
) -> None:
    with open_client(Settings(bundles=bundles_folder, api_keys_file=keys.file)) as guarded:
        document = guarded.get("/openapi.json").json()
    secured = {path for path, ways in document["paths"].items() for way in ways.values() if "security" in way}

    assert secured == {"/predict/pain", "/predict/valence-arousal", "/models"}
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_a_real_browser_shows_the_documentation_and_complains_of_nothing(
    bundles_folder: Path, open_server: Open, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=8000")
    with open_server(Settings(bundles=bundles_folder, port=0)) as live:
        url = f"http://127.0.0.1:{live.port}/docs"
        shown = subprocess.run(
            [chromium, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", url],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    assert 'id="operations-predict-' in shown.stdout
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line and "Content Security" in line] == []
