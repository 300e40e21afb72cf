"""Who may reload, and that what is refused changes nothing."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.access.keys import new_key
from service.admin import admin_token
from service.settings import Settings, SettingsError

Open = Callable[[Settings], AbstractContextManager[Any]]
RELOAD = "/admin/bundles/reload"
TOKEN = "open-sesame"


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


def test_a_line_end_behind_the_token_is_not_part_of_it(folder: Path) -> None:
    assert admin_token(Settings(bundles=folder, admin_token="open-sesame\n")) == "open-sesame"  # type: ignore[arg-type]


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


@pytest.mark.parametrize(
    ("why", "status", "code"),
    [
        ("the bundle is wrong", 422, "bundle_refused"),
        ("another reload is at work", 409, "reload_running"),
        ("the service is starting", 503, "not_ready"),
        ("the keys are wrong", 422, "access_files_refused"),
    ],
)
def test_a_refused_reload_leaves_keys_and_bundles_as_they_were(
    folder: Path, tmp_path: Path, write: Callable[..., str], open_client: Open, why: str, status: int, code: str
) -> None:
    (given, first), (_, second) = new_key("given"), new_key("later")
    file = tmp_path / "keys"
    file.write_text(first.line(), encoding="utf-8")
    settings = {"bundles": folder, "admin_token": TOKEN, "api_keys_file": file}
    key, admin = ({"Authorization": f"Bearer {token}"} for token in (given, TOKEN))
    with open_client(Settings.model_validate(settings)) as client:
        lifecycle = client.app.state.lifecycle
        resources = lifecycle.require()
        before = client.get("/models", headers=key).json()
        file.write_text("no key" if why == "the keys are wrong" else second.line(), encoding="utf-8")
        shutil.rmtree(folder / "load")
        write(folder / "load", 2.0, golden_gain=3.0 if why == "the bundle is wrong" else 2.0)
        if why == "another reload is at work":
            asyncio.run(resources.reloader.lock.acquire())
        if why == "the service is starting":
            lifecycle.resources = None
        refused = client.post(RELOAD, headers=admin)
        lifecycle.resources = resources
        after = client.get("/models", headers=key)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (after.status_code, after.json()) == (200, before)


def test_a_reload_takes_keys_and_bundles_together(
    folder: Path, tmp_path: Path, write: Callable[..., str], open_client: Open
) -> None:
    (gone, first), (given, second) = new_key("gone"), new_key("given")
    file = tmp_path / "keys"
    file.write_text(first.line(), encoding="utf-8")
    settings = {"bundles": folder, "admin_token": TOKEN, "api_keys_file": file}
    with open_client(Settings.model_validate(settings)) as client:
        file.write_text(second.line(), encoding="utf-8")
        shutil.rmtree(folder / "load")
        version = write(folder / "load", 2.0)
        assert client.post(RELOAD, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/models", headers={"Authorization": f"Bearer {gone}"}).status_code == 401
        models = client.get("/models", headers={"Authorization": f"Bearer {given}"}).json()["models"]

    assert [model["version"] for model in models] == [version]
