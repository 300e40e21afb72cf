"""A refused recording keeps no bundle: one that a reload took away is freed at once, not when garbage is collected."""

import gc
import shutil
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from service.settings import Settings
from tests import loopback

TOKEN = "open-sesame"
JPEG_HEAD = b"\xff\xd8\xff\xe0"


def test_a_refused_recording_does_not_keep_the_bundle_that_it_was_for(
    make_pain_bundle: Callable[..., Path],
    open_server: Callable[[Settings], AbstractContextManager[Any]],
    eventually: Callable[..., None],
    tmp_path: Path,
) -> None:
    folder = make_pain_bundle(tmp_path / "pain")
    values = {"bundles": tmp_path, "port": 0, "admin_token": TOKEN}
    gc.collect()
    gc.disable()
    try:
        with open_server(Settings.model_validate(values)) as live:
            replaced = weakref.ref(live.server.lifecycle.require().shelf.bundles[0])
            with loopback.Client(base_url=f"http://127.0.0.1:{live.port}", timeout=60) as client:
                refused = client.post("/predict/pain", files={"frames": ("face.jpg", JPEG_HEAD * 100)})
                shutil.rmtree(folder)
                make_pain_bundle(folder, seed=1)
                reloaded = client.post("/admin/bundles/reload", headers={"Authorization": f"Bearer {TOKEN}"})
            eventually(lambda: replaced() is None)
    finally:
        gc.enable()

    assert refused.json()["code"] == "unreadable_media"
    assert len(reloaded.json()["removed"]) == 1
