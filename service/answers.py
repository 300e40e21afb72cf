"""What the graphs put out becomes an answer. Pure functions; only windows that were really computed have values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models import outputs
from models.inputs.face import FaceObservation
from models.inputs.prepare import FaceInWindow, Prepared
from models.manifest import Manifest
from models.outputs import PainAnswer, ValueAnswer
from models.spec import FACE, VOICE
from service import schemas
from service.context import STAGES, RequestContext
from service.pipeline import Computed, Question

TIME_DIGITS: Final = 6
BLURRED: Final = 0.65
TURNED_DEG: Final = 45.0
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

    def values(self) -> dict[str, float]:
        """The answer's numbers by output; empty where there is none."""
        match self.answer:
            case None:
                return {}
            case PainAnswer(expected=expected):
                return {"pain": expected}
            case valence, arousal:
                return {"valence": valence.value, "arousal": arousal.value}


def calibrate(question: Question, computed: Sequence[Computed]) -> list[Answered]:
    """Apply each graph's own calibration to the outputs of its windows."""
    manifest = question.bundle.bundle.manifest
    return [answer_window(manifest, one) for one in computed]


def answer_window(manifest: Manifest, computed: Computed) -> Answered:
    window, graph, output = computed
    if graph is None:
        missing_face = manifest.inputs.face is not None and FACE not in window.observed
        return Answered(computed, None, window.reason or ("no_face" if missing_face else "not_computable"))
    answer: WindowAnswer | None = None
    if output is not None and manifest.task == "pain":
        answer = outputs.answer_pain(output[None], manifest.levels, graph.calibration)[0]
    elif output is not None:
        answer = outputs.answer_affect(output[None], graph.calibration)[0]
    return Answered(computed, answer, None if answer is not None else "not_computable")


def build_reply(
    question: Question, prepared: Prepared, answered: Sequence[Answered], context: RequestContext, total_s: float
) -> schemas.PainAnswerReply | schemas.AffectAnswerReply:
    """The whole answer."""
    manifest = question.bundle.bundle.manifest
    head: dict[str, Any] = {
        "api_version": schemas.API_VERSION,
        "task": question.task,
        "request_id": context.request_id,
        "bundle": schemas.BundleReply(
            name=manifest.name, version=question.bundle.bundle.version, trained_on=manifest.provenance.trained_on
        ),
        "warnings": [*bundle_warnings(manifest), *recording_warnings(question, prepared, answered)],
        "modalities": modalities(answered),
        "confidence_level": confidence_level(manifest, answered),
        "media": media_reply(prepared),
        "faces": faces(answered),
        "timing_ms": timing(context, total_s),
    }
    looked = prepared.media.has_video and manifest.inputs.face is not None
    counts = {"windows": len(answered), "answered": sum(one.answer is not None for one in answered)}
    if question.task == "pain":
        expected = spread(answered, "pain")
        summary = schemas.PainSummary(**counts, pain=schemas.ExpectedSpread(expected=expected) if expected else None)
        return schemas.PainAnswerReply(
            **head,
            levels=list(manifest.levels),
            windows=[pain_window(one, looked, question.frame_detail) for one in answered],
            summary=summary,
        )
    return schemas.AffectAnswerReply(
        **head,
        windows=[affect_window(one, looked, question.frame_detail) for one in answered],
        summary=schemas.AffectSummary(
            **counts, valence=spread(answered, "valence"), arousal=spread(answered, "arousal")
        ),
    )


def pain_window(answered: Answered, looked: bool, frame_detail: bool) -> schemas.PainWindow:
    pain = None
    if isinstance(answered.answer, PainAnswer):
        level, expected, probabilities, conformal_set = answered.answer
        pain = schemas.PainReply(
            level=level, expected=expected, probabilities=probabilities, conformal_set=conformal_set
        )
    return schemas.PainWindow(**window_fields(answered, looked, frame_detail), pain=pain)


def affect_window(answered: Answered, looked: bool, frame_detail: bool) -> schemas.AffectWindow:
    values: list[schemas.ValueReply | None] = [None, None]
    if answered.answer is not None and not isinstance(answered.answer, PainAnswer):
        values = [schemas.ValueReply(value=one.value, interval=one.interval) for one in answered.answer]
    return schemas.AffectWindow(**window_fields(answered, looked, frame_detail), valence=values[0], arousal=values[1])


def window_fields(answered: Answered, looked: bool, frame_detail: bool) -> dict[str, Any]:
    """The fields that windows of both tasks share; `looked` says whether there was a picture to find a face in."""
    window, graph, _ = answered.computed
    face, used = answered.face, graph if answered.answer is not None else None
    return {
        "start_s": round(window.window.start_s, TIME_DIGITS),
        "end_s": round(window.window.end_s, TIME_DIGITS),
        "face_id": face.face_id if face else None,
        "observed": ordered(used.available) if used else [],
        "hallucinated": ordered(used.hallucinated) if used else [],
        "face_coverage": window.face.coverage if window.face else 0.0 if looked else None,
        "face_box": face.shown.box if face else None,
        "face_time_s": round(face.shown.time_s, TIME_DIGITS) if face else None,
        "quality": quality(face) if face else None,
        "frames": [frame(seen) for seen in face.observations] if face and frame_detail else [],
        "reason": answered.reason,
    }


def quality(face: FaceInWindow) -> schemas.Quality:
    seen = face.shown
    return schemas.Quality(
        face_score=seen.score,
        blur=seen.blur,
        yaw_deg=seen.yaw_deg,
        pitch_deg=seen.pitch_deg,
        roll_deg=seen.roll_deg,
        static=face.static,
    )


def frame(seen: FaceObservation) -> schemas.FrameReply:
    return schemas.FrameReply(time_s=round(seen.time_s, TIME_DIGITS), box=seen.box, score=seen.score)


def ordered(names: Iterable[str]) -> list[str]:
    """The usual modalities in their usual order, then others by name."""
    return sorted(names, key=lambda name: ((*MODALITY_ORDER, name).index(name), name))


def modalities(answered: Sequence[Answered]) -> schemas.Modalities:
    """What was so in at least one answered window."""
    graphs = [one.computed.graph for one in answered if one.answer is not None and one.computed.graph is not None]
    return schemas.Modalities(
        observed=ordered({name for graph in graphs for name in graph.available}),
        hallucinated=ordered({name for graph in graphs for name in graph.hallucinated}),
    )


def faces(answered: Sequence[Answered]) -> list[schemas.FaceReply]:
    """Each track: from when to when it was seen, in how many windows, and how many of these were answered from it."""
    tracks: dict[int, list[Answered]] = {}
    for one in answered:
        if one.computed.window.face is not None:
            tracks.setdefault(one.computed.window.face.face_id, []).append(one)
    replies = []
    for face_id, windows in sorted(tracks.items()):
        seen_s = [seen.time_s for one in windows if (face := one.computed.window.face) for seen in face.observations]
        replies.append(
            schemas.FaceReply(
                face_id=face_id,
                first_s=round(min(seen_s), TIME_DIGITS),
                last_s=round(max(seen_s), TIME_DIGITS),
                windows=len(windows),
                answered=sum(one.answer is not None and one.face is not None for one in windows),
            )
        )
    return replies


def media_reply(prepared: Prepared) -> schemas.MediaReply:
    media = prepared.media
    return schemas.MediaReply(
        duration_s=round(media.duration_s, TIME_DIGITS),
        fps=media.fps,
        width=media.width,
        height=media.height,
        has_audio=media.has_audio,
    )


def confidence_level(manifest: Manifest, answered: Sequence[Answered]) -> float:
    """Of the graphs that answered; the lowest, should they differ."""
    used = [one.computed.graph for one in answered if one.computed.graph is not None] or manifest.graphs
    return min(graph.calibration.confidence_level for graph in used)


def spread(answered: Sequence[Answered], output: str) -> schemas.Spread | None:
    array = np.array([values[output] for one in answered if (values := one.values())])
    if not array.size:
        return None
    return schemas.Spread(mean=float(array.mean()), min=float(array.min()), max=float(array.max()))


def timing(context: RequestContext, total_s: float) -> schemas.Timing:
    stages = {stage: round(1000 * context.seconds.get(stage, 0.0), 3) for stage in STAGES}
    return schemas.Timing(**stages, total=round(1000 * total_s, 3))


def bundle_warnings(manifest: Manifest) -> list[str]:
    """What must be said of every answer of a bundle."""
    if not manifest.provenance.synthetic:
        return []
    return [
        f"synthetic: this bundle was trained on drawn faces ({manifest.provenance.trained_on}); "
        "its answers on real people mean nothing"
    ]


def recording_warnings(question: Question, prepared: Prepared, answered: Sequence[Answered]) -> list[str]:
    """What must be said of this recording."""
    warnings = []
    if question.task == "valence-arousal" and prepared.silent_track:
        warnings.append("silent-track: the sound track is silent and was not used")
    shown = [one.face.shown for one in answered if one.answer is not None and one.face is not None]
    poor = [seen for seen in shown if seen.blur > BLURRED or abs(seen.yaw_deg) > TURNED_DEG]
    if shown and 2 * len(poor) > len(shown):
        warnings.append(
            f"low-quality: in {len(poor)} of {len(shown)} answered windows the face is blurred, small or turned away"
        )
    return warnings
