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

from models.inputs.face_nets import FaceNets, load_face_nets
from models.inputs.media import MediaError, MediaLimits, frame_times
from models.inputs.prepare import Recording, prepare
from models.inputs.signals import SignalError, prepare_signal, read_biosignals
from models.spec import FACE, VOICE, InputSpec
from training.corpora.clip import Clip, CorpusError

PREPARE_VERSION = 2
"""Raise it whenever `models.inputs` gives other tensors for the same file."""

LABORATORY_LIMITS = MediaLimits(max_duration_s=4 * 3600, max_frames=1_000_000)
"""Corpora are our own files: long ones are welcome."""

Arrays = Mapping[str, NDArray[np.generic]]


def prepared_windows(
    clips: Sequence[Clip], spec: InputSpec, face_nets: Path, *, workers: int, folder: Path, label: str
) -> list[dict[str, NDArray[np.generic]]]:
    """Each clip's windows as arrays, from the cache where they are there, else prepared now with a progress bar.

    Per clip: `spans_s` (W, 2), `frame_times_s` (n,), and for each modality its tensor (W, ...) and
    `<modality>_observed` (W,) bool. Raises CorpusError, which names the clip, for a file that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{_key(clip, spec, face_nets)}.npz" for clip in clips]
    todo = [
        (clip, spec, face_nets, file)
        for clip, file in zip(clips, files, strict=True)
        if not zipfile.is_zipfile(file)  # not there, or cut short
    ]
    if todo:
        # spawned, not forked: torch's and onnxruntime's threads do not survive a fork
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                list(tqdm(pool.map(_prepare_into, todo, chunksize=4), total=len(todo), desc=label, unit="clip"))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [_read(file) for file in files]


def _read(file: Path) -> dict[str, NDArray[np.generic]]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _key(clip: Clip, spec: InputSpec, face_nets: Path) -> str:
    settings = [PREPARE_VERSION, spec.model_dump_json(), clip.side, face_nets.name if spec.face is not None else None]
    digest = hashlib.sha256(repr(settings).encode())
    for file in (clip.video, clip.signals):
        if file is not None:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1)
def _face_nets(folder: Path) -> FaceNets:
    """Loaded once in each worker process."""
    return load_face_nets(folder, threads=1)


def _prepare_into(job: tuple[Clip, InputSpec, Path, Path]) -> None:
    clip, spec, face_nets, file = job
    try:
        arrays = prepare_clip(clip, spec, _face_nets(face_nets) if spec.face is not None else None)
    except (MediaError, SignalError) as error:
        raise CorpusError(f"clip {clip.id} cannot be prepared: {error}") from error
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    part.replace(file)


def prepare_clip(clip: Clip, spec: InputSpec, nets: FaceNets | None) -> dict[str, NDArray[np.generic]]:
    """One clip's windows; `prepared_windows` describes the arrays. Raises CorpusError or MediaError for a bad file."""
    if clip.video is None:
        raise CorpusError(f"clip {clip.id} has no video")
    with clip.video.open("rb") as video:
        ready = prepare(Recording(video=video, side=clip.side), spec, nets, limits=LABORATORY_LIMITS)
        times = frame_times(video, LABORATORY_LIMITS)
    arrays: dict[str, NDArray[np.generic]] = {
        "spans_s": np.array([w.window for w in ready.windows], np.float64),
        "frame_times_s": times,
    }
    for modality in (FACE, VOICE):
        if (spec.face if modality == FACE else spec.voice) is None:
            continue
        empty = np.zeros(spec.shape(modality), spec.dtype(modality))
        observed = [modality in w.observed for w in ready.windows]
        arrays[modality] = np.stack(
            [w.tensor(modality) if o else empty for w, o in zip(ready.windows, observed, strict=True)]
        )
        arrays[f"{modality}_observed"] = np.array(observed)
    for modality in spec.signals:
        arrays |= _signal(clip, modality, spec, len(ready.windows))
    return arrays


def _signal(clip: Clip, modality: str, spec: InputSpec, windows: int) -> Arrays:
    signal = spec.signals[modality]
    if clip.signals is None or windows != 1:
        raise CorpusError(f"clip {clip.id}: {modality} needs one biosignal file and one window for each clip")
    recording = read_biosignals(clip.signals, signal.channels)
    tensor = prepare_signal(modality, recording.values, recording.rate_hz, signal, spec.window_s)
    return {modality: tensor[None], f"{modality}_observed": np.array([True])}
