"""What an answer says of all its windows together, kept while they come one by one, without the windows themselves."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from models.inputs.prepare import FaceInWindow
from models.manifest import GraphSpec, Manifest, Moments
from models.outputs import PainAnswer, ValueAnswer
from models.spec import FACE, VOICE
from service import schemas
from service.predict.pipeline import Computed

TIME_DIGITS: Final = 6
BLURRED: Final = 0.65
TURNED_DEG: Final = 45.0
USUAL_STD: Final = 4.0
"""Where what is asked is like the training corpus, hardly any expected error is farther from the usual one."""
MODALITY_ORDER: Final = (FACE, VOICE, "eda", "ecg", "emg", "text")

WindowAnswer = PainAnswer | tuple[ValueAnswer, ValueAnswer]


@dataclass(frozen=True)
class Answered:
    """A computed window with its calibrated answer; None where there is none, and then with the reason."""

    computed: Computed
    answer: WindowAnswer | None
    reason: str | None

    @property
    def face(self) -> FaceInWindow | None:
        """The face that was answered from: one below the asked-for coverage is none."""
        return self.computed.window.face if FACE in self.computed.window.observed else None

    @property
    def answered_by(self) -> GraphSpec | None:
        """The graph that the answer is of."""
        return None if self.answer is None else self.computed.graph

    def values(self) -> dict[str, float]:
        """The answer's numbers by output; empty where there is none."""
        match self.answer:
            case None:
                return {}
            case PainAnswer(expected=expected):
                return {"pain": expected}
            case valence, arousal:
                return {"valence": valence.value, "arousal": arousal.value}


@dataclass
class Track:
    """One face: from when to when it was seen, in how many windows, and how many of these were answered from it."""

    first_s: float
    last_s: float
    windows: int = 0
    answered: int = 0


@dataclass
class Values:
    """What is said of an output's values; a stream may have them for days, so they are not kept."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float) -> None:
        self.count, self.total = self.count + 1, self.total + value
        self.least, self.most = min(self.least, value), max(self.most, value)


@dataclass
class Tally:
    """Add the windows in order."""

    manifest: Manifest
    windows: int = 0
    answered: int = 0
    shown: int = 0
    """Windows that were answered from a face."""
    poor: int = 0
    """Those of them in which it is blurred, small or turned away."""
    unusual: int = 0
    """Answered windows in which a T-Net expects an error far from the usual one."""
    values: dict[str, Values] = field(default_factory=dict)
    tracks: dict[int, Track] = field(default_factory=dict)
    read_by: list[GraphSpec] = field(default_factory=list)
    """Each graph that a window went through, once."""
    answered_by: list[GraphSpec] = field(default_factory=list)
    start_s: float | None = None
    """Of the window that came last; with all faces, several rows may have the same."""

    def add(self, one: Answered) -> None:
        self.windows += 1
        window, graph, _, expected = one.computed
        if window.window.start_s != self.start_s:
            self.start_s = window.window.start_s
            for track in window.tracks:
                self.see(track)
        if graph is not None and graph not in self.read_by:
            self.read_by.append(graph)
        if one.answer is None:
            return
        self.answered += 1
        if one.answered_by is not None and one.answered_by not in self.answered_by:
            self.answered_by.append(one.answered_by)
        self.unusual += graph is not None and is_unusual(expected, graph.uncertainty_reference)
        for output, value in one.values().items():
            self.values.setdefault(output, Values()).add(value)
        if one.face is not None:
            self.tracks[one.face.face_id].answered += 1
            self.shown += 1
            self.poor += one.face.shown.blur > BLURRED or abs(one.face.shown.yaw_deg) > TURNED_DEG

    def see(self, face: FaceInWindow) -> None:
        first_s, last_s = face.observations[0].time_s, face.observations[-1].time_s
        track = self.tracks.setdefault(face.face_id, Track(first_s, last_s))
        track.first_s, track.last_s = min(track.first_s, first_s), max(track.last_s, last_s)
        track.windows += 1

    def modalities(self) -> schemas.Modalities:
        """What was so in at least one answered window."""
        return schemas.Modalities(
            observed=ordered({name for graph in self.answered_by for name in graph.available}),
            hallucinated=ordered({name for graph in self.answered_by for name in graph.hallucinated}),
        )

    def face_replies(self) -> list[schemas.FaceReply]:
        """Every track that is followed, by id."""
        return [
            schemas.FaceReply(
                face_id=face_id,
                first_s=round(track.first_s, TIME_DIGITS),
                last_s=round(track.last_s, TIME_DIGITS),
                windows=track.windows,
                answered=track.answered,
            )
            for face_id, track in sorted(self.tracks.items())
        ]

    def confidence_level(self) -> float:
        """Of the graphs that were used; the lowest, should they differ."""
        return min(graph.calibration.confidence_level for graph in self.read_by or self.manifest.graphs)

    def summary(self) -> schemas.PainSummary | schemas.AffectSummary:
        counts: Mapping[str, int] = {"windows": self.windows, "answered": self.answered}
        if self.manifest.task == "pain":
            expected = spread(self.values.get("pain"))
            pain = None if expected is None else schemas.ExpectedSpread(expected=expected)
            return schemas.PainSummary(**counts, pain=pain)
        return schemas.AffectSummary(
            **counts, valence=spread(self.values.get("valence")), arousal=spread(self.values.get("arousal"))
        )


def is_unusual(expected: Mapping[str, float], usual: Mapping[str, Moments]) -> bool:
    """Whether any of these expected errors is more than `USUAL_STD` standard deviations from what is usual.

    >>> is_unusual({"eda": 4.5, "ecg": 9.0}, {"eda": Moments(mean=2.0, std=0.5, windows=9)})
    True
    >>> is_unusual({"eda": 4.0}, {"eda": Moments(mean=2.0, std=0.5, windows=9)})
    False
    """
    return any(
        abs(expected[modality] - moments.mean) > USUAL_STD * moments.std
        for modality, moments in usual.items()
        if modality in expected
    )


def spread(values: Values | None) -> schemas.Spread | None:
    if values is None:
        return None
    return schemas.Spread(mean=values.total / values.count, min=values.least, max=values.most)


def ordered(names: Iterable[str]) -> list[str]:
    """The usual modalities in their usual order, then others by name."""
    return sorted(names, key=lambda name: ((*MODALITY_ORDER, name).index(name), name))
