"""The shipped balancer: no request is lost over a rolling restart, and errors of its own are problems."""

import io
import threading
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests import loopback

Files = Mapping[str, tuple[str, bytes]]

PATIENCE_S = 300.0
PAUSE_S = 0.2
"""Between two requests of a client: many small ones meet every moment of a restart, and leave cores to others."""


class Clients:
    """Posts the recording of each task, one after the other, until it is told to stop; keeps every status."""

    def __init__(self, url: str, recordings: Mapping[str, Files], count: int) -> None:
        self.url, self.recordings = url, recordings
        self.stopping = threading.Event()
        self.answers: list[tuple[str, int]] = []
        self.threads = [threading.Thread(target=self.work) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self) -> None:
        while not self.stopping.wait(PAUSE_S):
            for task, files in self.recordings.items():
                reply = loopback.post(f"{self.url}/predict/{task}", files=files, timeout=PATIENCE_S)
                self.answers.append((task, reply.status_code))

    def wait_for_more(self, count: int) -> None:
        """Until so many more answers have come."""
        enough = len(self.answers) + count
        while len(self.answers) < enough:
            assert any(thread.is_alive() for thread in self.threads)
            threading.Event().wait(0.05)

    def stop(self) -> list[tuple[str, int]]:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        return self.answers


def sound() -> bytes:
    """Two seconds of noise."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 16_000, 0, "NONE", ""))
        written.writeframes(np.random.default_rng(0).integers(-8000, 8000, 32_000, np.int16).tobytes())
    return file.getvalue()


def test_no_request_is_lost_over_a_rolling_restart(fleet: Any, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    recordings = {"pain": {"frames": ("a.jpg", picture)}, "valence-arousal": {"audio": ("a.wav", sound())}}
    clients = Clients(fleet.url, recordings, count=3)
    for address in list(fleet.replicas):
        clients.wait_for_more(6)
        fleet.restart(address)
    clients.wait_for_more(6)
    answers = clients.stop()

    assert {task for task, _ in answers} == set(recordings)
    assert [status for _, status in answers if status != 200] == []


def test_without_any_replica_the_balancer_answers_a_problem(fleet: Any) -> None:
    for replica in fleet.replicas.values():
        replica.kill()
        replica.wait()

    reply = loopback.get(f"{fleet.url}/models", headers={"X-Request-ID": "ward-7"}, timeout=PATIENCE_S)

    assert reply.status_code in (502, 503)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"].startswith("gateway_")
    assert reply.headers["x-request-id"] == "ward-7"


def test_metrics_and_admin_are_not_for_outside_and_the_request_id_comes_back(fleet: Any) -> None:
    for path in ("/metrics", "/admin/bundles/reload", "/%6detrics"):
        hidden = loopback.get(fleet.url + path, timeout=PATIENCE_S)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "gateway_not_found"), path

    asked = loopback.get(f"{fleet.url}/models", headers={"X-Request-ID": "ward-7"}, timeout=PATIENCE_S)
    strange = loopback.get(f"{fleet.url}/models", headers={"X-Request-ID": "<script>"}, timeout=PATIENCE_S)

    assert asked.headers["x-request-id"] == "ward-7"
    assert strange.headers["x-request-id"] not in ("", "<script>")
