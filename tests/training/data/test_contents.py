"""Results of one corpus are never taken for those of another that came into its place."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from pkdot import main
from training.compare.compare import compare, plan
from training.config import RunConfig
from training.corpora.clip import Clip, Corpus
from training.data.contents import contents_of
from training.data.window_set import WindowSet
from training.data.windows import CorpusWindows, FrameLabels
from training.run import train
from training.run_folder import RunFolder
from training.stages.prepare import read_windows

Arrays = dict[str, NDArray[np.generic]]
PEOPLE, EACH = 12, 6
QUICK = {"epochs": 1, "batch": 8}
RECIPE = {
    "name": "small",
    "corpus": {"kind": "features", "root": "corpus", "task": "classification"},
    "inputs": {"window_s": 1.0, "hop_s": 1.0, "features": {"face": {"shape": [6]}, "eda": {"shape": [4]}}},
    "modalities": ["face", "eda"],
    "students": [["face"]],
    "network": {"steps": 1, "dim": 16, "fusion": "concat"},
    "splits": {"folds": 4, "select": 0.15, "calibrate": 0.15},
    **dict.fromkeys(("encoders", "teacher", "tnet"), QUICK),
    "student": {**QUICK, "k": 4},
}


def arrays() -> Arrays:
    """Rows that say their class, of people with a split of their own."""
    noise, n = np.random.default_rng(3), PEOPLE * EACH
    label, person = np.arange(n) % 2, np.repeat(np.arange(PEOPLE), EACH)
    made: Arrays = {
        "task": np.array("classification"),
        "classes": np.array(["no", "yes"]),
        "label": label,
        "group": np.array([f"p{i:02d}" for i in person]),
        "split": np.where(person < 9, "train", "test"),
        "face": (label[:, None] + noise.normal(size=(n, 6))).astype(np.float32),
        "eda": (label[:, None] + noise.normal(size=(n, 4))).astype(np.float32),
    }
    return made


def changed(key: str) -> Arrays:
    """The same but for one value, or one person's split."""
    values = arrays()
    own = values[key].copy()
    if key == "face":
        own[2] += 1
    else:
        own[:EACH] = own[:EACH][::-1] if key == "label" else "test"
    return values | {key: own}


def write(folder: Path, values: Arrays) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "features.npz", allow_pickle=False, **values)  # type: ignore[arg-type]


def everything_in(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a small corpus, its recipe, and nothing that takes long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.run.export_bundle", lambda *_: SimpleNamespace(path=tmp_path, version="1"))
    write(tmp_path / "corpus", arrays())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def refused(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says, which must end with exit code 2."""
    monkeypatch.setattr("sys.argv", ["pkdot", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


CHANGES = [("face", "features of face"), ("label", "labels"), ("split", "splits")]


@pytest.mark.parametrize(("key", "what"), CHANGES)
def test_a_finished_comparison_is_not_shown_for_another_corpus(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str, what: str
) -> None:
    compare(plan(RunConfig.model_validate(RECIPE), place / "runs" / "small", [0], ["KD"], folds=1), jobs=1)
    write(place / "corpus", changed(key))
    before = everything_in(place / "runs")

    for more in ("", " --seeds 2", " --methods KD SP"):
        said = refused(f"compare small.yaml --out runs --folds 1 --methods KD{more}", monkeypatch, capsys)

        assert said == (
            f"pkdot: runs/small was made from other data: the corpus has changed since ({what}); "
            "give another --out, or remove the folder, and train again"
        )
    assert everything_in(place / "runs") == before


@pytest.mark.parametrize(("key", "what"), CHANGES)
def test_a_run_does_not_go_on_nor_is_scored_nor_exported_on_another_corpus(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str, what: str
) -> None:
    train(RunConfig.model_validate(RECIPE), place / "run", resume=False)
    (place / "run" / "student-face.pt").unlink()
    write(place / "corpus", changed(key))
    before = everything_in(place)

    for command in ("train small.yaml --out run --resume", "evaluate run", "export run bundle"):
        said = refused(command, monkeypatch, capsys)

        assert said.startswith(f"pkdot: run was made from other data: the corpus has changed since ({what}); ")
    assert everything_in(place) == before


def test_a_finished_comparison_is_not_shown_for_another_configuration(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(plan(RunConfig.model_validate(RECIPE), place / "runs" / "small", [0], ["KD"], folds=1), jobs=1)

    said = refused(
        "compare small.yaml --out runs --folds 1 --seeds 1 --methods KD --set teacher.epochs=2", monkeypatch, capsys
    )

    assert said == "pkdot: runs/small/seed-0/fold-0 holds a run of another configuration; give another --out"


def test_a_corpus_that_changes_between_two_cells_ends_the_comparison(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish = RunFolder.finish

    def change_once(self: RunFolder, stage: str, *others: object) -> None:
        write(place / "corpus", changed("face"))
        finish(self, stage, *others)

    monkeypatch.setattr(RunFolder, "finish", change_once)
    said = refused("compare small.yaml --out runs --folds 1 --seeds 2 --methods KD", monkeypatch, capsys)

    assert "pkdot: runs/small was made from other data: the corpus has changed since (features of face)" in said
    assert (place / "runs/small/seed-0/fold-0/predictions").is_dir()
    assert not (place / "runs/small/seed-1/fold-0/config.yaml").exists()


def test_the_same_content_elsewhere_is_the_same_corpus(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder, and another order of the arrays in the file."""
    config, out = RunConfig.model_validate(RECIPE), place / "runs" / "small"
    first = compare(plan(config, out, [0], ["KD"], folds=1), jobs=1)
    elsewhere = place / "elsewhere"
    write(elsewhere / "corpus", dict(reversed(arrays().items())))
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("training.compare.compare.open_setting", None)  # what would be called to run anything again

    again = compare(plan(config, out, [0], ["KD"], folds=1), jobs=1)

    said, before = again.results["KD (face)"], first.results["KD (face)"]
    assert [one.said.tolist() for one in said] == [one.said.tolist() for one in before]


def test_a_comparison_of_an_earlier_version_is_shown_and_its_corpus_is_known_from_then_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = RunConfig.model_validate(RECIPE), place / "runs" / "small"
    compare(plan(config, out, [0], ["KD"], folds=1), jobs=1)
    (out / "seed-0/fold-0/corpus.json").unlink()

    assert "KD (face)" in compare(plan(config, out, [0], ["KD"], folds=1), jobs=1).results

    write(place / "corpus", changed("face"))
    said = refused("compare small.yaml --out runs --folds 1 --seeds 1 --methods KD", monkeypatch, capsys)
    assert "the corpus has changed since (features of face)" in said


def frames_of(value: float) -> FrameLabels:
    return FrameLabels(np.arange(2) / 25, np.full((2, 2), value, np.float32))


def recorded() -> tuple[Corpus, CorpusWindows]:
    """Two videos of two people, three windows, labelled frame by frame."""
    corpus = Corpus(
        name="affwild2",
        task="valence-arousal",
        levels=(),
        clips=(Clip("a", "anna", Path("a.mp4"), split="train"), Clip("b", "bert", Path("b.mp4"), split="test")),
        signal_columns=(),
        synthetic=False,
        licence="research only",
    )
    windows = WindowSet(
        store={"face": torch.zeros(3, 4)},
        rows=torch.arange(3),
        observed={"face": torch.ones(3, dtype=torch.bool)},
        targets=torch.zeros(3, 2),
        person=torch.tensor([0, 0, 1]),
        clip=torch.tensor([0, 0, 1]),
        spans_s=torch.tensor([[0.0, 2.0], [2.0, 4.0], [0.0, 2.0]], dtype=torch.float64),
        people=("anna", "bert"),
    )
    return corpus, CorpusWindows(windows, (frames_of(0), None), (), key="1234 5678")


Change = Callable[[Corpus, CorpusWindows], tuple[Corpus, CorpusWindows]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c, w: (c, w._replace(key="1234 5679")), {"media as prepared"}),
        (lambda c, w: (c, w._replace(frames=(frames_of(1), None))), {"labels"}),
        (lambda c, w: (c, w._replace(windows=replace(w.windows, targets=torch.ones(3, 2)))), {"labels"}),
        (lambda c, w: (c, w._replace(windows=w.windows.with_labels_of(w.windows.clip == 0))), {"labels", "splits"}),
        (lambda c, w: (c, w._replace(windows=replace(w.windows, spans_s=w.windows.spans_s + 1))), {"times"}),
        (lambda c, w: (replace(c, clips=(c.clips[0], replace(c.clips[1], subject="carl"))), w), {"people"}),
        (lambda c, w: (replace(c, clips=(replace(c.clips[0], split=None), c.clips[1])), w), {"splits"}),
        (lambda c, w: (replace(c, clips=c.clips[::-1]), w), {"people", "recordings", "splits"}),
        (lambda c, w: (replace(c, levels=("BL1", "PA1")), w), {"classes or values"}),
        (lambda c, w: (replace(c, clips=(replace(c.clips[0], video=Path("/other/a.mp4")), c.clips[1])), w), set()),
        (lambda c, w: (replace(c, licence="CC0", notes=("one is missing",)), w), set()),
        # never looked at where the cache's keys tell it
        (lambda c, w: (c, w._replace(windows=replace(w.windows, store={"face": torch.ones(3, 4)}))), set()),
        (lambda c, w: (c, w._replace(key="", windows=w.windows)), {"media as prepared", "features of face"}),
    ],
)  # fmt: skip
def test_what_a_run_depends_on_is_told_and_nothing_else(change: Change, expected: set[str]) -> None:
    before, after = contents_of(*recorded()), contents_of(*change(*recorded()))

    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == expected


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_finds_the_same(place: Path, seed: str) -> None:
    """Python hashes text differently in each."""
    code = (
        "import json, yaml; from training.config import RunConfig; from training.data.contents import contents_of; "
        "from training.stages.prepare import read_windows; "
        "print(json.dumps(contents_of(*read_windows(RunConfig.model_validate(yaml.safe_load(open('small.yaml')))))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONHASHSEED": seed}

    said = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, check=True)

    assert json.loads(said.stdout) == contents_of(*read_windows(RunConfig.model_validate(RECIPE)))


def test_features_are_told_by_the_rows_that_are_used() -> None:
    corpus, prepared = recorded()
    values = torch.arange(3 * 2000, dtype=torch.float32).reshape(3000, 2)
    windows = replace(prepared.windows, store={"text": values}, rows=torch.arange(2999))
    other, unused = values.clone(), values.clone()
    other[2500, 1] += 1
    unused[2999] += 1

    first, second, third = (
        contents_of(corpus, prepared._replace(key="", windows=replace(windows, store={"text": store})))
        for store in (values, other, unused)
    )

    assert first["features of text"] != second["features of text"]
    assert first == third
