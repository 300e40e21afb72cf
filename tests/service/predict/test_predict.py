"""Real recordings through a real app: what an answer holds."""

import io
import math
import re
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from starlette.testclient import TestClient

from models.inputs.media import media
from models.inputs.media.media import MediaLimits


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


def test_a_damaged_picture_among_others_costs_no_answer(client: TestClient, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    damaged = [("frames", part) for part in (picture[:2000], picture, picture[:2000])]
    reply = client.post("/predict/pain", files=damaged, data={"fps": "2"})

    assert reply.status_code == 200
    assert reply.json()["summary"]["answered"] == 1
    assert (reply.json()["media"]["width"], reply.json()["media"]["duration_s"]) == (572, 1.5)
    again = client.post("/predict/pain", files=damaged[::2])
    assert (again.status_code, again.json()["code"]) == (422, "unreadable_media")


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


@pytest.fixture(scope="module")
def group(clips: Path) -> bytes:
    """Four seconds of several people, while somebody makes a sound."""
    rgb = media.decode_picture((clips / "multi_face.jpg").read_bytes(), MediaLimits())
    picture = av.VideoFrame.from_ndarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2])
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(4 * 16_000, dtype=np.float32) / 16_000)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        video, audio = output.add_stream("mpeg4", rate=5), output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        video.width, video.height, video.pix_fmt, video.bit_rate = picture.width, picture.height, "yuv420p", 8_000_000
        for number in range(20):
            picture.pts = number
            output.mux(video.encode(picture))
        output.mux(video.encode())
        sound = av.AudioFrame.from_ndarray((tone * 32767).astype(np.int16)[None], format="s16", layout="mono")
        sound.sample_rate = 16_000
        output.mux(audio.encode(sound))
        output.mux(audio.encode())
    return file.getvalue()


def test_with_all_faces_each_window_has_a_row_for_each_of_them(client: TestClient, group: bytes) -> None:
    reply = client.post("/predict/valence-arousal", files={"video": group}, data={"face": "all"})
    answer = reply.json()

    assert reply.status_code == 200
    keys = [(window["start_s"], window["face_id"]) for window in answer["windows"]]
    ids = sorted({face_id for _, face_id in keys})
    assert len(ids) > 1
    assert keys == [(start_s, face_id) for start_s in (0.0, 2.0) for face_id in ids]
    boxes = {tuple(window["face_box"]) for window in answer["windows"] if window["start_s"] == 0.0}
    assert len(boxes) == len(ids)
    assert {(face["face_id"], face["windows"], face["answered"]) for face in answer["faces"]} == {
        (i, 2, 2) for i in ids
    }
    assert answer["summary"]["windows"] == answer["summary"]["answered"] == 2 * len(ids)


def test_of_several_people_nobody_knows_whose_voice_it_is(client: TestClient, group: bytes) -> None:
    everyone = client.post("/predict/valence-arousal", files={"video": group}, data={"face": "all"}).json()
    largest = client.post("/predict/valence-arousal", files={"video": group}, data={"face": "largest"}).json()

    assert everyone["modalities"] == {"observed": ["face"], "hallucinated": ["voice"]}
    assert largest["modalities"] == {"observed": ["face", "voice"], "hallucinated": []}
    assert [window["start_s"] for window in largest["windows"]] == [0.0, 2.0]


def test_no_more_faces_are_followed_than_the_limit_says(make_client: Any, group: bytes) -> None:
    reply = make_client(max_faces=1).post("/predict/pain", files={"video": group}, data={"face": "all"})

    assert [window["start_s"] for window in reply.json()["windows"]] == [0.0, 2.0]


def test_with_all_faces_a_window_without_any_is_one_null_row(client: TestClient, clips: Path) -> None:
    answer = pain(client, clips / "face_noface.mov", face="all")

    assert [(w["start_s"], w["face_id"], w["reason"]) for w in answer["windows"]] == [
        *((0.0, 0, None), (2.0, None, "no_face"), (4.0, None, "no_face"), (6.0, None, "no_face"))
    ]


def test_a_picture_that_stops_before_the_sound_is_not_held_for_seen(client: TestClient, group: bytes) -> None:
    """The sound goes on for six seconds."""
    tone = (9000 * np.sin(np.arange(10 * 16_000) / 8)).astype(np.int16)
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(tone.tobytes())
    reply = client.post("/predict/valence-arousal", files={"video": group, "audio": sound.getvalue()})

    assert [window["observed"] for window in reply.json()["windows"]] == [
        *(["face", "voice"], ["face", "voice"], ["voice"], ["voice"], ["voice"]),
    ]


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
    assert timing["decode"] + timing["face"] <= timing["total"]  # one thread's; the device works at the same time
    assert all(spent <= timing["total"] for spent in timing.values())
    stages = [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")]
    assert stages == ["upload", "decode", "face", "queue", "inference"]
    assert re.search(r'desc="batch [12]"', reply.headers["server-timing"])  # as many as are useful on this machine
    assert reply.headers["cache-control"] == "no-store"


def test_the_load_report_reads_as_orca_text(client: TestClient, clips: Path) -> None:
    reply = client.post("/predict/pain", files={"frames": (clips / "single_face.jpg").read_bytes()})

    kind, _, fields = reply.headers["endpoint-load-metrics"].partition(" ")
    report = {name: float(value) for name, value in (field.split("=") for field in fields.split(","))}
    assert kind == "TEXT"
    assert report["application_utilization"] >= 0.01
    assert set(report) == {"application_utilization", "rps_fractional", "eps", "named_metrics.queue_seconds"}
