"""Who may reload."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.admin import admin_token
from service.settings import Settings, SettingsError

Open = Callable[[Settings], AbstractContextManager[Any]]
RELOAD = "/admin/bundles/reload"


@pytest.fixture
def folder(tmp_path: Path, write: Callable[..., str]) -> Path:
    write(tmp_path / "bundles" / "load", 1.0)
    return tmp_path / "bundles"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({"Authorization": "Bearer"}, 401, "unauthenticated"),
        ({"Authorization": "Basic b3Blbi1zZXNhbWU="}, 401, "unauthenticated"),
        ([("Authorization", "Bearer open-sesame"), ("Authorization", "Bearer x")], 401, "unauthenticated"),
        ({"Authorization": "Bearer open-sesam"}, 403, "forbidden"),
        ({"Authorization": "Bearer öpen".encode("latin-1")}, 403, "forbidden"),
    ],
)
def test_without_the_token_nothing_is_reloaded(
    folder: Path, open_client: Open, headers: Any, status: int, code: str
) -> None:
    with open_client(Settings(bundles=folder, admin_token="open-sesame")) as client:  # type: ignore[arg-type]
        reply = client.post(RELOAD, headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_the_token_may_come_from_a_file(folder: Path, tmp_path: Path, open_client: Open) -> None:
    (tmp_path / "token").write_text("open-sesame\n", encoding="utf-8")
    with open_client(Settings(bundles=folder, admin_token_file=tmp_path / "token")) as client:
        assert client.post(RELOAD, headers={"Authorization": "bearer open-sesame"}).status_code == 200


def test_without_a_token_set_there_is_no_such_address(folder: Path, open_client: Open) -> None:
    with open_client(Settings(bundles=folder)) as client:
        replies = [client.post(RELOAD, headers={"Authorization": f"Bearer {token}"}) for token in ("", "None", "x")]
        documented = client.get("/openapi.json").json()["paths"]

    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(404, "not_found")] * 3
    assert RELOAD not in documented


def test_a_token_file_that_gives_no_token_is_a_wrong_setting(folder: Path, tmp_path: Path) -> None:
    for content, sentence in ((None, "cannot be read"), (b" \n", "is empty"), (b"\xff", "cannot be read")):
        file = tmp_path / "token"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(SettingsError, match=sentence):
            admin_token(Settings(bundles=folder, admin_token_file=file))
