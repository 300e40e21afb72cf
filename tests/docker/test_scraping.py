"""Metrics of a fleet: each replica has its own, and together they are the whole."""

from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests import loopback


def scrape(fleet: Any, address: str) -> Counter[str]:
    """A replica's counters and histograms' counts of predictions, by name and labels."""
    text = loopback.get(f"http://{address}:{fleet.port}/metrics", timeout=30).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    kept = ("pkdot_requests_total", "pkdot_request_seconds_count", "pkdot_windows_total", "pkdot_idempotent_total")
    return Counter(
        {f"{s.name}{sorted(s.labels.items())}": int(s.value) for s in samples if s.name in kept},
    )


def test_counters_of_two_replicas_add_up_and_never_go_back(fleet: Any, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    seen = {address: Counter[str]() for address in fleet.replicas}
    for asked in range(1, 9):
        reply = loopback.post(f"{fleet.url}/predict/pain", files={"frames": ("a.jpg", picture)}, timeout=60)
        assert reply.status_code == 200
        for address, before in seen.items():
            seen[address] = scrape(fleet, address)
            assert before <= seen[address], "a counter went back"
        whole = sum(seen.values(), Counter[str]())
        assert whole["pkdot_requests_total[('code', 'ok'), ('status', '200'), ('task', 'pain')]"] == asked
        assert whole["pkdot_request_seconds_count[('task', 'pain')]"] == asked
        assert whole["pkdot_idempotent_total[('result', 'new')]"] == asked

    assert all(seen.values()), "one replica got everything"
