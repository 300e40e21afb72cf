"""The cache: where it lies, and that prepared windows are neither made twice nor taken for others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.inputs.voice import log_mel
from models.spec import InputSpec, LogMelSpec, WaveformSpec
from training.config import CorpusConfig, RunConfig
from training.corpora.affwild2 import read_affwild2
from training.corpora.clip import Clip, CorpusError
from training.corpora.synthetic import SyntheticAffect, synthesize_affwild2
from training.data.cache import prepared_windows
from training.files.cache_folder import cache_root
from training.stages.prepare import read_windows


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """What a cache file holds."""
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


VOICE_ONLY = InputSpec(window_s=1.0, hop_s=1.0, voice=LogMelSpec(mels=16))


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PKDOT_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert cache_root() == tmp_path / ".cache" / "pkdot"


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PKDOT_CACHE_DIR", str(tmp_path))

    assert cache_root() == tmp_path


def test_windows_are_prepared_once_and_again_when_file_or_setting_changes(tmp_path: Path) -> None:
    synthesize_affwild2(tmp_path / "a", SyntheticAffect(videos=2, validation_videos=1, video_s=2.0, picture_px=96))
    clips, cache = read_affwild2(tmp_path / "a").clips[:1], tmp_path / "cache"

    def prepare(spec: InputSpec) -> dict[str, np.ndarray]:
        (file,) = prepared_windows(clips, spec, tmp_path, workers=1, folder=cache, label="test")
        return arrays_of(file)

    first = prepare(VOICE_ONLY)
    written = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    again = prepare(VOICE_ONLY)
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == written
    assert all(np.array_equal(first[name], again[name]) for name in first)

    prepare(VOICE_ONLY.model_copy(update={"hop_s": 0.5}))
    assert len(list(cache.iterdir())) == 2

    video = clips[0].video
    assert video is not None
    video.write_bytes(video.read_bytes() + b"\0" * 9)
    prepare(VOICE_ONLY)
    assert len(list(cache.iterdir())) == 3


def test_a_waveform_is_kept_beside_the_energies_of_the_same_clip(tmp_path: Path) -> None:
    synthesize_affwild2(tmp_path / "a", SyntheticAffect(videos=2, validation_videos=1, video_s=2.0, picture_px=96))
    clips, cache = read_affwild2(tmp_path / "a").clips[:1], tmp_path / "cache"
    heard = VOICE_ONLY.model_copy(update={"voice": WaveformSpec(sample_rate_hz=16000)})

    first, second = (
        arrays_of(*prepared_windows(clips, spec, tmp_path, workers=1, folder=cache, label="test"))
        for spec in (VOICE_ONLY, heard)
    )

    assert (first["voice"].shape, second["voice"].shape) == ((2, 16, 100), (2, 16000))
    assert second["voice"].dtype == np.float32
    assert np.array_equal(first["voice_observed"], second["voice_observed"])
    for energies, sound in zip(first["voice"], second["voice"], strict=True):
        inner = slice(0, 90)  # the last columns reach beyond the window
        np.testing.assert_allclose(log_mel(sound, LogMelSpec(mels=16), 100)[:, inner], energies[:, inner], atol=1e-5)


def test_a_cut_cache_file_is_made_again(tmp_path: Path) -> None:
    synthesize_affwild2(tmp_path / "a", SyntheticAffect(videos=2, validation_videos=1, video_s=2.0, picture_px=96))
    clips = read_affwild2(tmp_path / "a").clips[:1]
    (file,) = prepared_windows(clips, VOICE_ONLY, tmp_path, workers=1, folder=tmp_path / "cache", label="test")
    first = arrays_of(file)
    file.write_bytes(file.read_bytes()[:100])

    (again,) = prepared_windows(clips, VOICE_ONLY, tmp_path, workers=1, folder=tmp_path / "cache", label="test")

    assert np.array_equal(first["voice"], arrays_of(again)["voice"])


def test_a_damaged_video_is_one_sentence_that_names_the_clip(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 200)

    with pytest.raises(CorpusError, match="clip 7 cannot be prepared: the file is cut short or damaged"):
        prepared_windows(
            [Clip("7", "somebody", video)], VOICE_ONLY, tmp_path, workers=1, folder=tmp_path / "cache", label="test"
        )


def test_a_recipe_without_a_face_needs_no_face_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKDOT_CACHE_DIR", str(tmp_path / "empty"))
    synthesize_affwild2(tmp_path / "a", SyntheticAffect(videos=2, validation_videos=1, video_s=2.0, picture_px=96))
    config = RunConfig(
        name="voices",
        corpus=CorpusConfig(kind="affwild2", root=tmp_path / "a"),
        inputs=VOICE_ONLY,
        modalities=("voice",),
        students=(("voice",),),
    )

    corpus, prepared = read_windows(config)

    assert prepared.windows.store["voice"].shape == (2 * len(corpus.clips), 16, 100)
    assert prepared.windows.observed["voice"].any()


def test_the_two_people_of_one_picture_are_prepared_apart(tmp_path: Path) -> None:
    synthesize_affwild2(tmp_path / "a", SyntheticAffect(videos=2, validation_videos=1, video_s=2.0, picture_px=96))
    clip = read_affwild2(tmp_path / "a").clips[0]

    prepared_windows(
        [replace(clip, side="left"), replace(clip, side="right")],
        VOICE_ONLY, tmp_path, workers=1, folder=tmp_path / "cache", label="test",
    )  # fmt: skip

    assert len(list((tmp_path / "cache").iterdir())) == 2
