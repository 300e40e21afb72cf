"""Some of the odd recordings through the whole service; the table of all is tested beside what decodes them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from starlette.testclient import TestClient

from ...models.inputs.odd.cases import CASES
from ...models.inputs.odd.geometry import fixed
from ...models.inputs.odd.writing import Film, write

RECORDINGS = {f"{case.kind}: {case.name}": case for case in CASES}


def answer(client: TestClient, task: str, video: bytes) -> Any:
    reply = client.post(f"/predict/{task}", files={"video": video})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize(
    ("name", "observed"),
    [
        ("odd rates and layouts: 8 kHz, mono, u8", [["voice"]]),
        ("odd rates and layouts: 192 kHz, eight channels, float with NaN", [["voice"]]),
        ("picture and sound of unlike length: sound longer", [["voice"], ["voice"]]),
        ("picture and sound of unlike length: picture longer", [["voice"], []]),
        ("several audio tracks: the default's codec is not let in", [["voice"]]),
    ],
)
def test_an_odd_recording_is_answered(client: TestClient, name: str, observed: list[list[str]]) -> None:
    windows = answer(client, "valence-arousal", RECORDINGS[name].make())["windows"]

    assert [window["observed"] for window in windows] == observed
    assert [window["valence"] is not None for window in windows] == [bool(seen) for seen in observed]


@pytest.mark.parametrize(
    ("name", "task", "status", "code"),
    [
        ("1 × 1: video", "pain", 422, "no_face"),
        ("silence: digital", "valence-arousal", 422, "no_usable_modality"),
        ("too short: 0.2 s", "valence-arousal", 422, "too_short"),
        ("a hole in the times: three hours", "pain", 422, "too_long"),
        ("edit lists: from beyond the end", "pain", 422, "unreadable_media"),
        ("matrices: one that is not converted", "pain", 422, "unreadable_media"),
        ("several video tracks: all of a codec that is not let in", "pain", 415, "unsupported_media"),
    ],
)
def test_an_odd_recording_is_refused_with_its_reason(
    client: TestClient, name: str, task: str, status: int, code: str
) -> None:
    reply = client.post(f"/predict/{task}", files={"video": RECORDINGS[name].make()})

    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert [part for part in RECORDINGS[name].wanted.says if part not in reply.json()["detail"]] == []


def test_a_turned_anamorphic_face_is_answered_as_it_is_displayed(client: TestClient, clips: Path) -> None:
    with av.open(str(clips / "single_face.jpg")) as opened:
        picture = next(opened.decode(video=0)).reformat(format="rgb24")
    whole = picture.to_ndarray()[:560, :570]
    narrow = av.VideoFrame.from_ndarray(whole).reformat(width=380).to_ndarray()
    upright, turned = (
        answer(client, "pain", write("mp4", film))
        for film in (
            Film([whole] * 5),
            Film([np.ascontiguousarray(np.rot90(narrow))] * 5, matrix=fixed(0, 1, -1, 0), aspect=Fraction(2, 3)),
        )
    )

    assert (turned["media"]["width"], turned["media"]["height"]) == (380, 560)
    x, y, w, h = upright["windows"][0]["face_box"]
    assert turned["windows"][0]["face_box"] == pytest.approx([x / 1.5, y, w / 1.5, h], abs=6)
    assert turned["windows"][0]["pain"]["probabilities"] == pytest.approx(
        upright["windows"][0]["pain"]["probabilities"], abs=0.02
    )
