"""Answers from outputs that no real clip gives."""

import math

import numpy as np
import pytest

from models.inputs.face.face import FaceObservation
from models.inputs.prepare import FaceInWindow, WindowInput
from models.inputs.windows import Window
from models.manifest import Calibration, GraphSpec, Manifest, Moments
from service.predict.answers import answer_window, bundle_warnings, window_fields
from service.predict.pipeline import Computed
from service.predict.tally import Tally, ordered

CROP = np.zeros((32, 32, 3), np.uint8)
SEEN = FaceObservation(0, 0.5, (1, 2, 30, 40), 0.9, 0.0, 0.0, 0.0, 0.4, CROP)
FACE = FaceInWindow(0, 0.8, SEEN, (SEEN,), static=False)
GRAPH = GraphSpec(
    available=("face",),
    hallucinated=("voice",),
    file="face.onnx",
    inputs={"face": "face"},
    output="values",
    golden="golden.npz",
    calibration=Calibration(quantiles={"valence": 0.3, "arousal": 0.3}, people=5, windows=50),
)
MANIFEST = Manifest.model_validate(
    {
        "schema_version": "1.0",
        "name": "affect",
        "task": "valence-arousal",
        "prevalent": ("face",),
        "privileged": ("voice",),
        "inputs": {"window_s": 2, "hop_s": 2, "face": {}},
        "graphs": (GRAPH,),
        "face": None,
        "provenance": {
            "trained_on": "x",
            "synthetic": False,
            "protocol": "x",
            "metrics": {},
            "git_revision": None,
            "licences": {},
        },
        "files": {"face.onnx": "0" * 64, "golden.npz": "0" * 64},
    }
)
WINDOW = WindowInput(Window(0.0, 2.0), FACE, None, (CROP,) * 10)


@pytest.mark.parametrize("output", [[math.nan, 0.1], [0.1, math.inf]])
def test_an_output_that_is_no_number_is_not_made_up(output: list[float]) -> None:
    answered = answer_window(MANIFEST, Computed(WINDOW, GRAPH, np.array(output, np.float32)))
    fields = window_fields(answered, looked=True, frame_detail=False)

    assert (answered.answer, answered.values()) == (None, {})
    assert (fields["reason"], fields["observed"], fields["hallucinated"]) == ("not_computable", [], [])
    assert fields["face_id"] == 0


def test_a_value_beyond_the_scale_is_clipped_with_its_interval() -> None:
    answered = answer_window(MANIFEST, Computed(WINDOW, GRAPH, np.array([1.5, -0.9], np.float32)))

    assert answered.reason is None
    assert answered.values() == {"valence": 1.0, "arousal": pytest.approx(-0.9)}


def test_a_window_that_no_graph_can_read_says_what_is_missing() -> None:
    voice_only = WindowInput(Window(0.0, 2.0), None, None, (), np.zeros((64, 200), np.float32))

    assert answer_window(MANIFEST, Computed(voice_only, None, None)).reason == "no_face"


def test_modalities_keep_their_usual_order() -> None:
    assert ordered(["text", "pose", "emg", "voice", "face", "gaze"]) == ["face", "voice", "emg", "text", "gaze", "pose"]


def test_a_face_that_is_seen_but_not_answered_from_is_counted_so() -> None:
    passing = FACE._replace(face_id=3, coverage=0.1)
    tally = Tally(MANIFEST)
    for start_s, values in ((0.0, [0.1, 0.2]), (2.0, [math.nan, 0.0])):
        window = WindowInput(Window(start_s, start_s + 2), FACE, None, (CROP,) * 10, tracks=(FACE, passing))
        tally.add(answer_window(MANIFEST, Computed(window, GRAPH, np.array(values, np.float32))))
    counts = [(face.face_id, face.windows, face.answered) for face in tally.face_replies()]

    assert counts == [(0, 2, 1), (3, 2, 0)]
    assert tally.summary().model_dump() == {
        "windows": 2,
        "answered": 1,
        "valence": {name: pytest.approx(0.1) for name in ("mean", "min", "max")},
        "arousal": {name: pytest.approx(0.2) for name in ("mean", "min", "max")},
    }


def test_rows_of_one_window_count_its_faces_once() -> None:
    other = FACE._replace(face_id=1)
    tally = Tally(MANIFEST)
    for face in (FACE, other):
        row = WindowInput(Window(0.0, 2.0), face, None, (CROP,) * 10, tracks=(FACE, other))
        tally.add(answer_window(MANIFEST, Computed(row, GRAPH, np.zeros(2, np.float32))))

    assert [(face.face_id, face.windows, face.answered) for face in tally.face_replies()] == [(0, 1, 1), (1, 1, 1)]
    assert (tally.windows, tally.answered) == (2, 2)


@pytest.mark.parametrize(
    ("expected", "unusual"), [([5.0, -1.1], 2), ([5.0, 1.0], 1), ([3.9, -0.9], 0), ([None, 5.0], 1)]
)
def test_a_window_is_unusual_where_an_expected_error_is_more_than_four_deviations_off(
    expected: list[float | None], unusual: int
) -> None:
    graph = GRAPH.model_copy(update={"uncertainty_reference": {"voice": Moments(mean=1.5, std=0.625, windows=9)}})
    tally = Tally(MANIFEST)
    for start_s, value in enumerate(expected):
        window = WindowInput(Window(start_s, start_s + 2), FACE, None, (CROP,) * 10, tracks=(FACE,))
        told = {} if value is None else {"voice": value}
        tally.add(answer_window(MANIFEST, Computed(window, graph, np.zeros(2, np.float32), told)))
        tally.add(answer_window(MANIFEST, Computed(window, graph, np.full(2, math.nan, np.float32), {"voice": 99.0})))

    assert (tally.answered, tally.unusual) == (2, unusual)


def test_heuristic_intervals_are_said_to_promise_nothing() -> None:
    heuristic = GRAPH.calibration.model_copy(update={"heuristic": True})
    graph = GRAPH.model_copy(update={"calibration": heuristic})

    assert bundle_warnings(MANIFEST) == []
    (warning,) = bundle_warnings(MANIFEST.model_copy(update={"graphs": (graph,)}))
    assert warning.startswith("heuristic: ")
