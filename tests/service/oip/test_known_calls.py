"""A JSON that was understood once is not read again; the values of tensors are not kept."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.bundles.shelf import LoadedBundle
from service.errors import InvalidField
from service.oip import known_calls
from service.oip.known_calls import MAX_JSON_BYTES, MAX_KNOWN, KnownCalls

EDA = {"name": "eda", "shape": [1, 5], "datatype": "FP32", "parameters": {"binary_data_size": 20}}


@pytest.fixture
def bundles(client: TestClient) -> dict[str, LoadedBundle]:
    shelf = client.app.state.lifecycle.require().shelf  # type: ignore[attr-defined]  # an app, as FastAPI makes it
    return {loaded.name: loaded for loaded in shelf.bundles}


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every JSON that was read."""
    read, seen = known_calls.read_request, list[bytes]()

    def watched(text: bytes) -> Any:
        seen.append(text)
        return read(text)

    monkeypatch.setattr(known_calls, "read_request", watched)
    return seen


def asked(tensor: dict[str, Any] = EDA, **others: Any) -> bytes:
    return json.dumps({"inputs": [tensor], **others}).encode()


def test_the_same_json_is_read_once(bundles: dict[str, LoadedBundle], readings: list[bytes]) -> None:
    calls = KnownCalls()
    first, again = (calls.understand(asked(), bundles["pain"], max_batch=9) for _ in range(2))

    assert first is again
    assert first.bundle is bundles["pain"]
    assert len(readings) == 1


def test_another_bundle_is_asked_something_else(bundles: dict[str, LoadedBundle]) -> None:
    calls = KnownCalls()
    calls.understand(asked(), bundles["pain"], max_batch=9)

    with pytest.raises(InvalidField, match="gaze"):  # `mood` needs both
        calls.understand(asked(), bundles["mood"], max_batch=9)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(asked({**EDA, "parameters": {}, "data": [0] * 5}), id="values of a tensor"),
        pytest.param(asked(id="41"), id="a request's own id"),
        pytest.param(asked() + b" " * MAX_JSON_BYTES, id="a long JSON"),
    ],
)
def test_what_is_one_requests_own_is_not_kept(bundles: dict[str, LoadedBundle], text: bytes) -> None:
    calls = KnownCalls()
    calls.understand(text, bundles["pain"], max_batch=9)

    assert not calls.known


def test_what_is_wrong_is_said_each_time(bundles: dict[str, LoadedBundle], readings: list[bytes]) -> None:
    calls = KnownCalls()
    for _ in range(2):
        with pytest.raises(InvalidField):
            calls.understand(asked({**EDA, "shape": [1, 4]}), bundles["pain"], max_batch=9)

    assert len(readings) == 2


def test_only_so_many_are_kept(bundles: dict[str, LoadedBundle]) -> None:
    calls = KnownCalls()
    for blanks in range(MAX_KNOWN + 1):
        calls.understand(asked() + b" " * blanks, bundles["pain"], max_batch=9)

    assert len(calls.known) == 1
