"""The shipped balancer: no request is lost over a rolling restart, and errors of its own are problems."""

import threading
from pathlib import Path
from typing import Any

import httpx2

TASKS = ("pain", "valence-arousal")
PATIENCE_S = 300.0


class Clients:
    """Posts to both endpoints, one after the other, until it is told to stop; keeps every status."""

    def __init__(self, url: str, clip: bytes, count: int) -> None:
        self.url, self.clip = url, clip
        self.stopping = threading.Event()
        self.answers: list[tuple[str, int]] = []
        self.threads = [threading.Thread(target=self.work) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self) -> None:
        while not self.stopping.is_set():
            for task in TASKS:
                self.answers.append((task, post(self.url, task, self.clip).status_code))

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


def post(url: str, task: str, clip: bytes) -> httpx2.Response:
    return httpx2.post(f"{url}/predict/{task}", files={"video": ("clip.mp4", clip)}, timeout=PATIENCE_S)


def test_no_request_is_lost_over_a_rolling_restart(fleet: Any, clips: Path) -> None:
    clients = Clients(fleet.url, (clips / "single_face.mp4").read_bytes(), count=3)
    for address in list(fleet.replicas):
        clients.wait_for_more(6)
        fleet.restart(address)
    clients.wait_for_more(6)
    answers = clients.stop()

    assert {task for task, _ in answers} == set(TASKS)
    assert [status for _, status in answers if status != 200] == []


def test_without_any_replica_the_balancer_answers_a_problem(fleet: Any) -> None:
    for replica in fleet.replicas.values():
        replica.kill()
        replica.wait()

    reply = httpx2.get(f"{fleet.url}/models", headers={"X-Request-ID": "ward-7"}, timeout=PATIENCE_S)

    assert reply.status_code in (502, 503)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"].startswith("gateway_")
    assert reply.headers["x-request-id"] == "ward-7"


def test_metrics_and_admin_are_not_for_outside_and_the_request_id_comes_back(fleet: Any) -> None:
    for path in ("/metrics", "/admin/bundles/reload", "/%6detrics"):
        hidden = httpx2.get(fleet.url + path, timeout=PATIENCE_S)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "gateway_not_found"), path

    asked = httpx2.get(f"{fleet.url}/models", headers={"X-Request-ID": "ward-7"}, timeout=PATIENCE_S)
    strange = httpx2.get(f"{fleet.url}/models", headers={"X-Request-ID": "<script>"}, timeout=PATIENCE_S)

    assert asked.headers["x-request-id"] == "ward-7"
    assert strange.headers["x-request-id"] not in ("", "<script>")
