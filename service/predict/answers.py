"""What the graphs put out becomes an answer, window by window. Only windows that were really computed have values."""

from collections.abc import Sequence
from typing import Any

from models import outputs
from models.inputs.face.face import FaceObservation
from models.inputs.media.media import MediaInfo
from models.inputs.prepare import FaceInWindow, Preparation
from models.manifest import Manifest
from models.outputs import PainAnswer
from models.spec import FACE
from service import schemas
from service.context import STAGES, RequestContext
from service.predict.pipeline import Computed, Question
from service.predict.tally import TIME_DIGITS, Answered, Tally, WindowAnswer, ordered

WindowReply = schemas.PainWindow | schemas.AffectWindow


def answer_window(manifest: Manifest, computed: Computed) -> Answered:
    window, graph, output, _ = computed
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
    question: Question,
    preparation: Preparation,
    tally: Tally,
    windows: Sequence[WindowReply],
    context: RequestContext,
    total_s: float,
) -> schemas.PainAnswerReply | schemas.AffectAnswerReply:
    """The whole answer."""
    manifest = question.bundle.bundle.manifest
    answer: dict[str, Any] = {
        "api_version": schemas.API_VERSION,
        "task": question.task,
        "request_id": context.request_id,
        "bundle": bundle_reply(question),
        "warnings": warnings(question, preparation.silent_track, tally),
        "modalities": tally.modalities(),
        "confidence_level": tally.confidence_level(),
        "media": media_reply(preparation.media),
        "faces": tally.face_replies(),
        "windows": windows,
        "summary": tally.summary(),
        "timing_ms": timing(context, total_s),
    }
    if question.task == "pain":
        return schemas.PainAnswerReply(**answer, levels=list(manifest.levels))
    return schemas.AffectAnswerReply(**answer)


def window_reply(question: Question, media: MediaInfo, answered: Answered) -> WindowReply:
    """One window as it is sent; nothing of what was computed from is kept."""
    looked = media.has_video and question.bundle.bundle.manifest.inputs.face is not None
    reply = pain_window if question.task == "pain" else affect_window
    return reply(answered, looked, question.frame_detail)


def bundle_reply(question: Question) -> schemas.BundleReply:
    bundle = question.bundle.bundle
    return schemas.BundleReply(
        name=bundle.manifest.name, version=bundle.version, trained_on=bundle.manifest.provenance.trained_on
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
    window, face, used = answered.computed.window, answered.face, answered.answered_by
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


def media_reply(media: MediaInfo) -> schemas.MediaReply:
    return schemas.MediaReply(
        duration_s=round(media.duration_s, TIME_DIGITS),
        fps=media.fps,
        width=media.width,
        height=media.height,
        has_audio=media.has_audio,
    )


def timing(context: RequestContext, total_s: float) -> schemas.Timing:
    stages = {stage: round(1000 * context.seconds.get(stage, 0.0), 3) for stage in STAGES}
    return schemas.Timing(**stages, total=round(1000 * total_s, 3))


def bundle_warnings(manifest: Manifest) -> list[str]:
    """What must be said of every answer of a bundle."""
    said = []
    if manifest.provenance.synthetic:
        said.append(
            f"synthetic: this bundle was trained on drawn faces ({manifest.provenance.trained_on}); "
            "its answers on real people mean nothing"
        )
    if any(graph.calibration.kind == "heuristic" for graph in manifest.graphs):
        said.append(
            "heuristic: sets and intervals come from out-of-fold scores and guarantee no coverage for a new person"
        )
    return said


def warnings(question: Question, silent_track: bool, tally: Tally) -> list[str]:
    """What must be said of this bundle, and of this recording."""
    said = bundle_warnings(question.bundle.bundle.manifest)
    if question.task == "valence-arousal" and silent_track:
        said.append("silent-track: the sound track is silent and was not used")
    if tally.shown and 2 * tally.poor > tally.shown:
        said.append(
            f"low-quality: in {tally.poor} of {tally.shown} answered windows the face is blurred, small or turned away"
        )
    if 2 * tally.unusual > tally.answered:
        said.append(
            f"out-of-range: {tally.unusual} of {tally.answered} answered windows are unlike what the model was trained "
            "on, so its answers may mean little; record as for the training, or train on recordings like this one"
        )
    return said
