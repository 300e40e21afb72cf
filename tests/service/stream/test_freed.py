"""A bundle that a reload took away is freed with the last stream that it answers, not when garbage is collected."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import loopback

RELOAD = "/admin/bundles/reload"
TOKEN = "open-sesame"


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_stream_keeps_no_bundle_but_its_own(
    bundles_folder: Path,
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    tmp_path: Path,
) -> None:
    shutil.copytree(bundles_folder, tmp_path / "bundles")
    live = make_server(bundles=tmp_path / "bundles", admin_token=TOKEN)
    pain, affect = (weakref.ref(one) for one in live.server.lifecycle.require().shelf.bundles)
    with talk(live.port, "pain", {"video": {"fps": 10}}) as client:
        client.hear()
        shutil.rmtree(tmp_path / "bundles" / "valence-arousal")
        reload(live)
        eventually(lambda: affect() is None)
        assert pain() is not None


def reload(live: Any) -> Any:
    """What a reload has changed."""
    url = f"http://127.0.0.1:{live.port}{RELOAD}"
    return loopback.post(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60).json()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("way", ["end", "close", "wrong message", "wrong pictures"])
def test_the_end_of_a_stream_frees_a_bundle_that_was_replaced(
    make_pain_bundle: Callable[..., Path],
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    face_jpegs: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.setattr("service.stream.pictures.MAX_DAMAGED", 1)
    folder = make_pain_bundle(tmp_path / "pain")
    live = make_server(bundles=tmp_path, admin_token=TOKEN)
    replaced = weakref.ref(live.server.lifecycle.require().shelf.bundles[0])
    with talk(live.port, "pain", {"video": {"fps": 10}}) as client:
        client.hear()
        client.picture(0.0, face_jpegs[0])
        shutil.rmtree(folder)
        make_pain_bundle(folder, seed=1)
        assert reload(live)["removed"] == [
            {"name": "pain-test", "version": replaced().bundle.version, "role": "bundle"}
        ]
        client.picture(0.1, face_jpegs[1])
        assert replaced() is not None
        match way:
            case "end":
                assert [window["reason"] for window in client.end()[0]] == [None]
            case "wrong message":
                client.say(type="hello")
                assert client.hear_all()[1] == 4400
            case "wrong pictures":
                for n in range(2, 10):
                    client.picture(n / 10, face_jpegs[n][:100])
                assert client.hear_all()[1] == 4422
    eventually(lambda: replaced() is None)
