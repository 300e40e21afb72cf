"""What the form of a prediction may hold, and what is wrong with one: every bad field is named at once."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from models.inputs.face.face import Follow
from models.inputs.prepare import WHOLE, Span
from models.spec import Task
from service.errors import FieldError
from service.uploads.form import Form
from service.uploads.upload import Piece

COMMON_TEXTS: Final = frozenset({"start_s", "end_s", "hop_s", "bundle", "face", "detail"})
FILES: Final[dict[Task, frozenset[str]]] = {
    "pain": frozenset({"video", "frames"}),
    "valence-arousal": frozenset({"video", "audio"}),
}
TEXTS: Final[dict[Task, frozenset[str]]] = {"pain": COMMON_TEXTS | {"fps"}, "valence-arousal": COMMON_TEXTS}
REPEATED: Final = frozenset({"frames"})

DEFAULT_FPS: Final = 25.0
MAX_FPS: Final = 240.0
MIN_HOP_S: Final = 0.02
DECIMAL: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
MAX_DECIMAL_CHARS: Final = 32


@dataclass(frozen=True)
class Fields:
    """A form's fields, as far as they could be read. `errors` names the others."""

    video: Piece | None = None
    frames: Sequence[Piece] = ()
    audio: Piece | None = None
    fps: float = DEFAULT_FPS
    span: Span = WHOLE
    bundle: str | None = None
    follow: Follow = "largest"
    frame_detail: bool = False
    errors: list[FieldError] = field(default_factory=list)


def read_fields(form: Form, task: Task) -> Fields:
    """The fields of a prediction of `task`; those that are wrong are in `errors`, and have their default value."""
    errors = [FieldError(name, f"is not a field of {task}; {known(task)}") for name in dict.fromkeys(form.unknown)]
    errors += [FieldError(name, "is too long for this field") for name in sorted(form.overlong)]
    doubled = [name for name, pieces in form.files.items() if len(pieces) > 1 and name not in REPEATED]
    doubled += [name for name, values in form.texts.items() if len(values) > 1]
    errors += [FieldError(name, "was sent more than once; send it once") for name in doubled]
    errors += [
        FieldError(name, "is empty; send a file with content, or leave the field out")
        for name, pieces in form.files.items()
        if any(piece.size == 0 for piece in pieces)
    ]
    errors += missing_files(form, task)
    texts = {name: values[0] for name, values in form.texts.items()}
    fps = number(texts, "fps", errors, above=0.0, at_most=MAX_FPS)
    span = read_span(texts, errors)
    follow = choice(texts, "face", ("largest", "all"), errors)
    detail = choice(texts, "detail", ("frames",), errors)
    video, audio = (form.files.get(name, [None])[0] for name in ("video", "audio"))
    return Fields(
        video,
        form.files.get("frames", ()),
        audio,
        DEFAULT_FPS if fps is None else fps,
        span,
        texts.get("bundle"),
        cast(Follow, follow or "largest"),
        detail is not None,
        errors,
    )


def missing_files(form: Form, task: Task) -> list[FieldError]:
    """No recording, or two that exclude each other."""
    if not form.files:
        return [FieldError("video", f"is missing; send {' or '.join(f'`{name}`' for name in sorted(FILES[task]))}")]
    if "video" in form.files and "frames" in form.files:
        return [FieldError("frames", "cannot be sent together with `video`; send one of them")]
    if "fps" in form.texts and "frames" not in form.files:
        return [FieldError("fps", "belongs to `frames`; a video has its own rate")]
    return []


def read_span(texts: dict[str, str], errors: list[FieldError]) -> Span:
    start_s = number(texts, "start_s", errors, at_least=0.0)
    end_s = number(texts, "end_s", errors, above=0.0)
    hop_s = number(texts, "hop_s", errors, at_least=MIN_HOP_S)
    if end_s is not None and end_s <= (start_s or 0.0):
        errors.append(FieldError("end_s", f"must be after start_s, which is {start_s or 0.0:g}; got {end_s:g}"))
        end_s = None
    return Span(start_s or 0.0, end_s, hop_s)


def number(
    texts: dict[str, str],
    name: str,
    errors: list[FieldError],
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> float | None:
    """A finite number in its range; None where it was not sent, or is wrong."""
    if name not in texts:
        return None
    bounds = [f"over {above:g}"] if above > -math.inf else []
    bounds += [f"at least {at_least:g}"] if at_least > -math.inf else []
    bounds += [f"at most {at_most:g}"] if at_most < math.inf else []
    value = decimal(texts[name])
    if value is not None and above < value and at_least <= value <= at_most:
        return value
    errors.append(FieldError(name, f"must be a number {', '.join(bounds)}; got {texts[name][:32]!r}"))
    return None


def decimal(text: str) -> float | None:
    """A finite number as people write it; None for anything else, also for what only Python takes for a number.

    >>> decimal("2.5"), decimal("1e-3"), decimal("1_000"), decimal("nan"), decimal("1e999")
    (2.5, 0.001, None, None, None)
    """
    value = float(text) if len(text) <= MAX_DECIMAL_CHARS and DECIMAL.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def choice(texts: dict[str, str], name: str, accepted: Sequence[str], errors: list[FieldError]) -> str | None:
    """One of the accepted words; None where it was not sent, or is wrong."""
    if name not in texts or texts[name] in accepted:
        return texts.get(name)
    words = " or ".join(f"`{word}`" for word in accepted)
    errors.append(FieldError(name, f"must be {words}, or left out; got {texts[name][:32]!r}"))
    return None


def known(task: Task) -> str:
    return "accepted are " + ", ".join(sorted(FILES[task] | TEXTS[task]))
