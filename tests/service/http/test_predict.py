"""Real recordings through a real app: what an answer holds."""

import math
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient


def pain(client: TestClient, path: Path, **fields: Any) -> Any:
    reply = client.post("/predict/pain", files={"video": path.read_bytes()}, data=fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


def affect(client: TestClient, path: Path, **fields: Any) -> Any:
    reply = client.post("/predict/valence-arousal", files={"video": path.read_bytes()}, data=fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, float) else []


def test_pain_answers_every_window_of_a_face_clip(client: TestClient, clips: Path) -> None:
    answer = pain(client, clips / "single_face.mp4")

    assert list(answer) == [
        *("api_version", "task", "request_id", "bundle", "warnings", "modalities", "confidence_level", "media"),
        *("faces", "levels", "windows", "summary", "timing_ms"),
    ]
    assert answer["api_version"] == "1.0"
    assert (answer["media"]["width"], answer["media"]["height"]) == (640, 360)
    assert answer["modalities"] == {"observed": ["face"], "hallucinated": ["eda", "ecg", "emg"]}
    assert answer["levels"] == ["BL1", "PA1", "PA2", "PA3", "PA4"]
    assert answer["faces"] == [{"face_id": 0, "first_s": 0.1, "last_s": pytest.approx(2.4, abs=0.1)} | both(2)]
    for window in answer["windows"]:
        assert window["reason"] is None
        assert sum(window["pain"]["probabilities"].values()) == pytest.approx(1)
        assert window["pain"]["level"] in window["pain"]["set"]
        expected = sum(i * p for i, p in enumerate(window["pain"]["probabilities"].values()))
        assert window["pain"]["expected"] == pytest.approx(expected)
    assert all(map(math.isfinite, numbers(answer)))


def both(count: int) -> dict[str, int]:
    return {"windows": count, "answered": count}


def test_windows_have_the_fields_of_the_contract_and_no_others(client: TestClient, clips: Path) -> None:
    window = affect(client, clips / "single_face.mp4")["windows"][0]

    assert list(window) == [
        *("start_s", "end_s", "face_id", "observed", "hallucinated", "face_coverage", "face_box", "face_time_s"),
        *("quality", "valence", "arousal", "reason"),
    ]
    assert list(window["quality"]) == ["face_score", "blur", "yaw_deg", "pitch_deg", "roll_deg", "static"]


def test_intervals_lie_around_their_value_within_the_scale(client: TestClient, clips: Path) -> None:
    for window in affect(client, clips / "single_face.mp4")["windows"]:
        for output in ("valence", "arousal"):
            low, high = window[output]["interval"]
            assert -1 <= low <= window[output]["value"] <= high <= 1


def test_one_picture_is_a_static_window(client: TestClient, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    reply = client.post("/predict/pain", files={"frames": picture})

    assert reply.status_code == 200
    (window,) = reply.json()["windows"]
    assert window["quality"]["static"] is True
    assert window["pain"]["level"] in reply.json()["levels"]


def test_pictures_are_read_in_order_at_their_rate(client: TestClient, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    reply = client.post("/predict/pain", files=[("frames", picture)] * 6, data={"fps": "2"})

    assert reply.json()["media"]["duration_s"] == 3.0
    assert [w["start_s"] for w in reply.json()["windows"]] == [0.0, 2.0]


def test_a_clip_without_a_face_has_no_pain(client: TestClient, clips: Path) -> None:
    reply = client.post("/predict/pain", files={"video": (clips / "no_face.mp4").read_bytes()})

    assert (reply.status_code, reply.json()["code"]) == (422, "no_face")


def test_a_voice_alone_still_has_valence(client: TestClient, clips: Path) -> None:
    answer = affect(client, clips / "no_face.mp4")

    assert answer["modalities"] == {"observed": ["voice"], "hallucinated": ["face"]}
    assert answer["faces"] == []
    assert {w["face_coverage"] for w in answer["windows"]} == {0.0}
    assert answer["windows"][0]["valence"]["interval"] is None  # this bundle's voice graph is not calibrated


def test_windows_after_the_face_has_left_say_so(client: TestClient, clips: Path) -> None:
    answer = pain(client, clips / "face_noface.mov")
    reasons = [window["reason"] for window in answer["windows"]]

    assert reasons == [None, "no_face", "no_face", "no_face"]
    assert answer["summary"]["answered"] == 1
    assert [w["pain"] is None for w in answer["windows"]] == [False, True, True, True]
    below = answer["windows"][1]
    assert 0 < below["face_coverage"] < 0.3
    assert (below["face_id"], below["face_box"], below["quality"]) == (None, None, None)
    assert (answer["faces"][0]["windows"], answer["faces"][0]["answered"]) == (2, 1)


def test_each_window_uses_what_it_has(client: TestClient, clips: Path) -> None:
    answer = affect(client, clips / "face_noface.mov")

    assert [w["observed"] for w in answer["windows"]] == [["face"], ["voice"], ["voice"], ["voice"]]
    assert answer["modalities"] == {"observed": ["face", "voice"], "hallucinated": ["face", "voice"]}


def test_a_silent_sound_track_is_said_and_not_used(client: TestClient, clips: Path) -> None:
    answer = affect(client, clips / "single_face.mp4")

    assert answer["modalities"]["observed"] == ["face"]
    assert [w.split(":")[0] for w in answer["warnings"]] == ["synthetic", "silent-track"]


def test_audio_replaces_the_videos_own_sound(client: TestClient, clips: Path) -> None:
    files = {"video": (clips / "single_face.mp4").read_bytes(), "audio": (clips / "no_face.mp4").read_bytes()}
    reply = client.post("/predict/valence-arousal", files=files)

    assert reply.json()["windows"][0]["observed"] == ["face", "voice"]


def test_audio_alone_is_enough(client: TestClient, clips: Path) -> None:
    reply = client.post("/predict/valence-arousal", files={"audio": (clips / "no_face.mp4").read_bytes()})

    assert reply.status_code == 200
    assert reply.json()["modalities"]["observed"] == ["voice"]
    assert {w["face_coverage"] for w in reply.json()["windows"]} == {None}


def test_a_part_with_its_own_hop_is_answered_in_that_raster(client: TestClient, clips: Path) -> None:
    answer = pain(client, clips / "single_face.mp4", start_s="0.5", end_s="2.0", hop_s="0.5")

    assert [(w["start_s"], w["end_s"]) for w in answer["windows"]] == [(0.5, 2.0), (1.0, 2.0), (1.5, 2.0)]


def test_frame_detail_names_each_sampled_frame(client: TestClient, clips: Path) -> None:
    answer = pain(client, clips / "face_noface.mov", detail="frames")

    frames = answer["windows"][0]["frames"]
    assert [f["time_s"] for f in frames] == sorted({f["time_s"] for f in frames})
    assert set(frames[0]) == {"time_s", "box", "score"}
    assert answer["windows"][2]["frames"] == []


def test_a_bundle_can_be_named(client: TestClient, clips: Path) -> None:
    assert pain(client, clips / "single_face.mp4", bundle="pain-test")["bundle"]["name"] == "pain-test"


def test_without_calibration_there_is_no_set(make_client: Any, uncalibrated_pain_bundle: Path, clips: Path) -> None:
    answer = pain(make_client(bundles=uncalibrated_pain_bundle), clips / "single_face.mp4")

    assert answer["windows"][0]["pain"]["set"] is None


def test_uploads_that_outgrow_the_memory_give_the_same_answer(
    make_client: Any, client: TestClient, clips: Path
) -> None:
    in_memory = pain(client, clips / "single_face.mp4")
    in_file = pain(make_client(spool_memory_bytes=0), clips / "single_face.mp4")

    assert in_file["windows"] == in_memory["windows"]


def test_pictures_in_a_file_are_read_one_by_one(make_client: Any, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    reply = make_client(spool_memory_bytes=0).post("/predict/pain", files=[("frames", picture)] * 3)

    assert reply.status_code == 200
    assert reply.json()["media"]["duration_s"] == pytest.approx(3 / 25)


def test_an_answer_tells_where_the_time_went(client: TestClient, clips: Path) -> None:
    reply = client.post("/predict/pain", files={"video": (clips / "single_face.mp4").read_bytes()})

    timing = reply.json()["timing_ms"]
    assert sum(timing.values()) - timing["total"] <= timing["total"] * 1.05
    stages = [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")]
    assert stages == ["upload", "decode", "face", "queue", "inference"]
    assert 'desc="batch 2"' in reply.headers["server-timing"]
    assert reply.headers["cache-control"] == "no-store"


def test_the_load_report_reads_as_orca_text(client: TestClient, clips: Path) -> None:
    reply = client.post("/predict/pain", files={"frames": (clips / "single_face.jpg").read_bytes()})

    kind, _, fields = reply.headers["endpoint-load-metrics"].partition(" ")
    report = {name: float(value) for name, value in (field.split("=") for field in fields.split(","))}
    assert kind == "TEXT"
    assert report["application_utilization"] >= 0.01
    assert set(report) == {"application_utilization", "rps_fractional", "eps", "named_metrics.queue_seconds"}
