"""The folder of a run: configuration, versions, checkpoints, metrics, bundle; files are written beside and renamed."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from training.config import ConfigError, RunConfig, reason, where
from training.data.contents import Contents, require_same
from training.files.replacing import whole_file
from training.loop.checkpoint import load_weights, save_weights
from training.loop.distributed import is_first_rank, wait_for_all

VERSIONS_OF = ("pkdot", "torch", "numpy", "av", "onnx", "onnxruntime")


class RunFolder:
    """`config.yaml`, `corpus.json`, `versions.json`, `metrics.json`, `scratch/`, `bundle/`; of stages `<stage>.pt`, and
    `matrices-<stage>.npz` where a plot has something to show.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    def check(self, config: RunConfig, *, resume: bool) -> None:
        """ConfigError where the folder holds another run, or this one and `resume` is off. Writes nothing."""
        held = self.path / "config.yaml"
        if not held.exists():
            return
        if not resume:
            raise ConfigError(f"{self.path} holds a run already; give --resume to go on, or another --out")
        if self.config() != config:  # not by their text: settings that came later have their defaults
            raise ConfigError(f"{self.path} holds a run of another configuration; give another --out")

    def contents(self) -> Contents | None:
        """What the corpus held that this run was made from; ConfigError where that record is damaged.

        None where there is no run yet, and for a run of an earlier version, which kept no such record: it goes on, and
        `begin` or `adopt` takes the corpus of that day for its own.
        """
        file = self.path / "corpus.json"
        if not (self.path / "config.yaml").exists() or not file.exists():
            return None
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ConfigError(f"{file} is damaged; remove the folder, or that file if the corpus is the same") from None

    def check_corpus(self, now: Contents) -> None:
        """ConfigError where the run that is here was made from a corpus that held something else. Writes nothing."""
        require_same(self.contents(), now, self.path)

    def adopt(self, contents: Contents) -> None:
        """Take `contents` for what a run without such a record was made from, so that a later change is noticed."""
        if (self.path / "config.yaml").exists() and self.contents() is None:
            self._write_contents(contents)

    def begin(self, config: RunConfig, contents: Contents, *, resume: bool) -> None:
        """Claim the folder for `config` and a corpus that holds `contents`; raises as both checks do.

        Called once the corpus is known to be sound.
        """
        self.check(config, resume=resume)
        self.check_corpus(contents)
        wait_for_all()  # a rank that comes late must not take what the first writes for an earlier run
        self.scratch.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in VERSIONS_OF}
        self._write("versions.json", json.dumps({"python": platform.python_version(), **versions}, indent=1) + "\n")
        self._write_contents(contents)
        self._write("config.yaml", _text(config))  # last: it is what tells that a run is here
        wait_for_all()

    def config(self) -> RunConfig:
        """The configuration of the run that is here; ConfigError if there is none, or it cannot be used any more."""
        held = self.path / "config.yaml"
        if not held.is_file():
            raise ConfigError(f"{self.path} holds no config.yaml; name a folder that `pkdot train` wrote")
        try:
            return RunConfig.model_validate(yaml.safe_load(held.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError):
            raise ConfigError(f"{held} is not what this version of `pkdot train` writes; train again") from None
        except ValidationError as error:  # of an earlier version, or a weights file has gone: the run may be mended
            raise ConfigError(f"{held}: {where(error)}: {reason(error)}; put that right, or train again") from None

    def load(self, stage: str) -> Any | None:
        """The checkpoint of a finished stage, or None; ConfigError where it is damaged."""
        file = self.path / f"{stage}.pt"
        return load_weights(file) if file.exists() else None

    def require(self, stage: str) -> Any:
        """The checkpoint of a finished stage; ConfigError where it is not there."""
        weights = self.load(stage)
        if weights is None:
            raise ConfigError(f"{self.path} holds no checkpoint {stage}.pt; finish the run with --resume first")
        return weights

    def finish(self, stage: str, weights: Any, metrics: Any) -> None:
        """Keep what a stage made. The checkpoint comes last, since it is what tells that the stage is done."""
        self.add_metrics(stage, metrics)
        if is_first_rank():
            save_weights(self.path / f"{stage}.pt", weights)
        wait_for_all()

    def metrics(self) -> dict[str, Any]:
        """What `add_metrics` wrote; ConfigError where it is damaged."""
        file = self.path / "metrics.json"
        try:
            return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
        except ValueError:
            raise ConfigError(f"{file} is damaged; remove it and go on with --resume") from None

    def add_metrics(self, name: str, values: Any) -> None:
        self._write("metrics.json", json.dumps({**self.metrics(), name: values}, indent=1, sort_keys=True) + "\n")

    def _write_contents(self, contents: Contents) -> None:
        self._write("corpus.json", json.dumps(dict(contents), indent=1, sort_keys=True) + "\n")

    def _write(self, name: str, text: str) -> None:
        if not is_first_rank():
            return
        with whole_file(self.path / name) as part:
            part.write_text(text, encoding="utf-8")


def _text(config: RunConfig) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
