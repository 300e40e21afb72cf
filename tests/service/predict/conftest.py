"""What tests of answers in lines need."""

import io

import av
import numpy as np
import pytest

from .lines import Tracker


@pytest.fixture
def no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is; the test that wants them sets other times."""
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 600.0)
    monkeypatch.setattr("service.predict.ndjson.PROGRESS_S", 600.0)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[Tracker]:
    Tracker.alive = Tracker.peak = Tracker.made = 0
    monkeypatch.setattr("models.inputs.prepare.FaceTracker", Tracker)
    return Tracker


@pytest.fixture(scope="session")
def long_film() -> bytes:
    """Ten minutes, a small frame a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in range(600):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade % 256, np.uint8))))
        output.mux(stream.encode())
    return file.getvalue()
