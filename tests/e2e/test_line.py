"""From a recording to an answer, on real recordings of real people."""

from pathlib import Path

import av
import httpx2
import pytest

from models import bundle
from tests import loopback
from training.run_folder import RunFolder
from training.scores.predictions import load_predictions
from training.stages.prepare import prepare_setting

TIMEOUT_S = 60


def post(address: str, task: str, field: str, *files: Path, **fields: str) -> httpx2.Response:
    parts = [(field, (file.name, file.read_bytes())) for file in files]
    return loopback.post(f"{address}/predict/{task}", files=parts, data=fields, timeout=TIMEOUT_S)


def test_a_real_face_in_a_video_gets_a_pain_answer(address: str, clips: Path) -> None:
    reply = post(address, "pain", "video", clips / "single_face.mp4")

    answer = reply.json()
    assert reply.status_code == 200, answer
    pain = answer["windows"][0]["pain"]
    assert answer["levels"] == ["BL1", "PA1", "PA2", "PA3", "PA4"]
    assert pain["level"] in answer["levels"]
    assert sum(pain["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert pain["expected"] == pytest.approx(sum(i * p for i, p in enumerate(pain["probabilities"].values())), abs=1e-3)
    assert answer["modalities"] == {"observed": ["face"], "hallucinated": ["eda", "ecg", "emg"]}
    assert (answer["media"]["width"], answer["media"]["height"]) == (640, 360)
    assert answer["warnings"][0].startswith("synthetic:")


def test_one_picture_is_a_valid_recording(address: str, clips: Path) -> None:
    reply = post(address, "pain", "frames", clips / "single_face.jpg")

    window = reply.json()["windows"][0]
    assert reply.status_code == 200
    assert window["quality"]["static"] is True
    assert window["pain"] is not None


def test_a_face_that_leaves_is_answered_where_it_is_and_missed_where_it_is_not(address: str, clips: Path) -> None:
    reply = post(address, "pain", "video", clips / "face_noface.mov", hop_s="1.0")

    windows = reply.json()["windows"]
    reasons = {window["reason"] for window in windows if window["pain"] is None}
    assert reply.status_code == 200
    assert any(window["pain"] is not None for window in windows)
    assert reasons == {"no_face"}
    assert reply.json()["summary"]["answered"] == sum(window["pain"] is not None for window in windows)


def test_nobody_in_the_picture_is_422_no_face_for_pain(address: str, clips: Path) -> None:
    reply = post(address, "pain", "video", clips / "no_face.mp4")

    assert (reply.status_code, reply.json()["code"]) == (422, "no_face")
    assert reply.headers["content-type"] == "application/problem+json"


def test_valence_and_arousal_of_a_real_clip_come_from_face_and_voice(address: str, clips: Path) -> None:
    reply = post(address, "valence-arousal", "video", clips / "single_face.mp4")

    answer = reply.json()
    assert reply.status_code == 200, answer
    first = answer["windows"][0]
    assert set(first["observed"]) <= {"face", "voice"}
    assert "face" in first["observed"]
    assert -1 <= first["valence"]["value"] <= 1
    assert -1 <= first["arousal"]["value"] <= 1


def test_a_voice_without_a_picture_has_its_face_hallucinated(address: str, workplace: Path) -> None:
    sound = voice_of(next((workplace / "corpora" / "affwild2" / "videos").glob("*.mp4")), workplace / "voice.wav")

    reply = post(address, "valence-arousal", "audio", sound)

    answer = reply.json()
    assert reply.status_code == 200, answer
    assert answer["modalities"] == {"observed": ["voice"], "hallucinated": ["face"]}


def test_the_service_answers_what_training_scored(
    address: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No skew: the same clip through the service and through training's own preparation, torch and calibration."""
    monkeypatch.chdir(workplace)  # the run's corpus is named as in the README
    monkeypatch.setenv("PKDOT_CACHE_DIR", str(workplace / "cache"))
    folder = RunFolder(workplace / "runs" / "biovid")
    setting = prepare_setting(folder.config(), folder.scratch)
    scored = load_predictions(folder.path / "predictions" / "student-face.npz")
    clip = next(clip for clip in setting.corpus.clips if clip.id == scored.item[0])
    assert clip.video is not None

    served = post(address, "pain", "video", clip.video).json()["windows"][0]["pain"]["probabilities"]

    assert list(served.values()) == pytest.approx(scored.said[0].tolist(), abs=1e-3)


def test_the_exported_bundles_are_whole_and_their_cards_warn(workplace: Path) -> None:
    for task in ("pain", "valence-arousal"):
        made = bundle.load(workplace / "bundles" / task)
        card = (made.path / "card.md").read_text()
        assert made.manifest.provenance.synthetic
        assert "mean nothing" in card
        assert "Not a medical device" in card


def voice_of(video: Path, wav: Path) -> Path:
    """The sound track alone."""
    with av.open(str(video)) as source, av.open(str(wav), "w") as sink:
        track = sink.add_stream("pcm_s16le", rate=source.streams.audio[0].rate)
        for frame in source.decode(audio=0):
            frame.pts = None
            sink.mux(track.encode(frame))
        sink.mux(track.encode(None))
    return wav
