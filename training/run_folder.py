"""The folder of a run: configuration, versions, checkpoints, metrics, bundle; files are written beside and renamed."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from training.checkpoint import load_weights, save_weights
from training.config import ConfigError, RunConfig
from training.distributed import is_first_rank, wait_for_all
from training.replacing import whole_file

VERSIONS_OF = ("pkdot", "torch", "numpy", "av", "onnx", "onnxruntime")


class RunFolder:
    """`config.yaml`, `versions.json`, `metrics.json`, `<stage>.pt`, `scratch/`, `bundle/`."""

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

    def begin(self, config: RunConfig, *, resume: bool) -> None:
        """Claim the folder for `config`; raises as `check` does. Called once the corpus is known to be sound."""
        self.check(config, resume=resume)
        self.scratch.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in VERSIONS_OF}
        self._write("versions.json", json.dumps({"python": platform.python_version(), **versions}, indent=1) + "\n")
        self._write("config.yaml", _text(config))
        wait_for_all()

    def config(self) -> RunConfig:
        """The configuration of the run that is here; ConfigError if there is none."""
        held = self.path / "config.yaml"
        if not held.is_file():
            raise ConfigError(f"{self.path} holds no config.yaml; name a folder that `pkdot train` wrote")
        try:
            return RunConfig.model_validate(yaml.safe_load(held.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValidationError, UnicodeDecodeError):
            raise ConfigError(f"{held} is not what this version of `pkdot train` writes; train again") from None

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

    def _write(self, name: str, text: str) -> None:
        if not is_first_rank():
            return
        with whole_file(self.path / name) as part:
            part.write_text(text, encoding="utf-8")


def _text(config: RunConfig) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
