"""Prepared windows on disk: decoding and face tracking are done once for each clip and setting.

The key is made of the clip's bytes, the input specification, the face nets and the version of the code that prepares,
so that a changed file or setting can never meet old tensors. Files are written beside their place and renamed.
"""

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.inputs.face.nets import FaceNets, load_face_nets
from models.inputs.media.media import MediaError, MediaLimits
from models.inputs.prepare import Recording, WindowInput, prepare
from models.inputs.signals import SignalError, prepare_signal, read_biosignals
from models.inputs.windows import plan_windows
from models.spec import FACE, VOICE, InputSpec
from training.corpora.aligned_pictures import aligned_faces, clip_frame_times, picture_rate_hz, read_pictures
from training.corpora.biovid import require_one_length
from training.corpora.clip import Clip, CorpusError
from training.data.workers import end_with_parent

PREPARE_VERSION = 4
"""Raise it whenever `models.inputs` gives other tensors for the same file."""

LABORATORY_LIMITS = MediaLimits(max_duration_s=4 * 3600, max_frames=1_000_000)
"""Corpora are our own files: long ones are welcome."""

Arrays = Mapping[str, NDArray[np.generic]]


def prepared_windows(
    clips: Sequence[Clip], spec: InputSpec, face_nets: Path | None, *, workers: int, folder: Path, label: str
) -> list[Path]:
    """Each clip's windows as an npz file, from the cache where it is there, else prepared now with a progress bar.

    In a file: `spans_s` (W, 2), `frame_times_s` (n,), and for each modality its tensor (W, ...) and
    `<modality>_observed` (W,) bool; of signals also `<modality>_s`, the seconds recorded. `face_nets` may be None where
    `spec` has no face. Raises CorpusError, which names the clip or its file, for one that cannot be read, and for
    biosignals that do not last as long as their video.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{_key(clip, spec, face_nets)}.npz" for clip in clips]
    todo = [
        (clip, spec, face_nets, file) for clip, file in zip(clips, files, strict=True) if not _is_prepared(file, spec)
    ]
    if todo:
        # spawned, not forked: torch's and onnxruntime's threads do not survive a fork
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
            try:
                list(tqdm(pool.map(_prepare_into, todo, chunksize=4), total=len(todo), desc=label, unit="clip"))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return files


def _is_prepared(file: Path, spec: InputSpec) -> bool:
    """Whether a cache file is there and whole, and its signals, if it has any, were compared with the video's length.

    Files of an earlier version are of any length. Of a right one the tensors are the same, so the key stays.
    """
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as arrays:
        return {f"{modality}_s.npy" for modality in spec.signals} <= set(arrays.namelist())


def _key(clip: Clip, spec: InputSpec, face_nets: Path | None) -> str:
    settings = [PREPARE_VERSION, spec.model_dump_json(), clip.side, face_nets and face_nets.name]
    digest = hashlib.sha256(repr(settings).encode())
    for file in (clip.video, clip.signals):
        if file is not None:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    if clip.pictures is not None:
        # without a video, the name tells the rate, and the labels how long the recording is
        digest.update(repr((picture_rate_hz(clip), None if clip.labels is None else len(clip.labels))).encode())
        for number, file in sorted(read_pictures(clip.pictures).files.items()):
            digest.update(f"{number} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1)
def _face_nets(folder: Path) -> FaceNets:
    """Loaded once in each worker process."""
    return load_face_nets(folder, threads=1)


def _prepare_into(job: tuple[Clip, InputSpec, Path | None, Path]) -> None:
    clip, spec, face_nets, file = job
    try:
        looks = face_nets is not None and spec.face is not None and clip.pictures is None
        arrays = prepare_clip(clip, spec, _face_nets(face_nets) if looks else None)
    except (MediaError, SignalError) as error:
        raise CorpusError(f"clip {clip.id} cannot be prepared: {error}") from error
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    part.replace(file)


def prepare_clip(clip: Clip, spec: InputSpec, nets: FaceNets | None) -> dict[str, NDArray[np.generic]]:
    """One clip's windows; `prepared_windows` describes the arrays. Raises CorpusError or MediaError for a bad file."""
    times = clip_frame_times(clip, LABORATORY_LIMITS)
    length_s, windows = _windows(clip, spec, nets, len(times))
    arrays: dict[str, NDArray[np.generic]] = {
        "spans_s": np.array([w.window for w in windows], np.float64),
        "frame_times_s": times,
    }
    for modality in (FACE, VOICE):
        if (spec.face if modality == FACE else spec.voice) is None:
            continue
        empty = np.zeros(spec.shape(modality), spec.dtype(modality))
        observed = [modality in w.observed for w in windows]
        arrays[modality] = np.stack(
            [w.tensor(modality) if o else empty for w, o in zip(windows, observed, strict=True)]
        )
        arrays[f"{modality}_observed"] = np.array(observed)
    if spec.face is not None and clip.pictures is not None:
        arrays[FACE], arrays[f"{FACE}_observed"] = aligned_faces(
            read_pictures(clip.pictures), times, [w.window for w in windows], spec.face, spec.window_s
        )
    for modality in spec.signals:
        arrays |= _signal(clip, modality, spec, len(windows), length_s)
    return arrays


def _windows(clip: Clip, spec: InputSpec, nets: FaceNets | None, frames: int) -> tuple[float, tuple[WindowInput, ...]]:
    """The clip's length in seconds, and its windows: no faces where it has aligned pictures, empty without a video."""
    if clip.video is None:
        length_s = frames / picture_rate_hz(clip)
        planned = plan_windows(0.0, length_s, spec.window_s, spec.hop_s)
        return length_s, tuple(WindowInput(window, None, None) for window in planned)
    own = spec if clip.pictures is None else spec.model_copy(update={"face": None})
    with clip.video.open("rb") as video:
        prepared = prepare(Recording(video=video, side=clip.side), own, nets, limits=LABORATORY_LIMITS)
    return prepared.media.duration_s, prepared.windows


def _signal(clip: Clip, modality: str, spec: InputSpec, windows: int, filmed_s: float) -> Arrays:
    signal = spec.signals[modality]
    if clip.signals is None or windows != 1:
        raise CorpusError(f"clip {clip.id}: {modality} needs one biosignal file and one window for each clip")
    recording = read_biosignals(clip.signals, signal.channels)
    recorded_s = recording.values.shape[1] / recording.rate_hz
    require_one_length(clip.signals.name, recorded_s, filmed_s)
    tensor = prepare_signal(modality, recording.values, recording.rate_hz, signal, spec.window_s)
    return {
        modality: tensor[None],
        f"{modality}_observed": np.array([True]),
        f"{modality}_s": np.array(recorded_s),
    }
