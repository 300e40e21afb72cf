"""Where the curves of a run go: TensorBoard's files, an MLflow server or folder, or nowhere."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from training.config import ConfigError, RunConfig
from training.loop.distributed import is_first_rank

Track = Callable[[str, float, int], None]
"""(name, value, epoch)."""


def track_nothing(name: str, value: float, epoch: int) -> None:
    """A run that nobody watches."""


@contextmanager
def tracking(config: RunConfig, folder: Path, protocol: Sequence[str]) -> Iterator[Track]:
    """What stages call with each epoch's numbers; `protocol`, how they come about, stands beside the curves.

    TensorBoard's files lie in `folder`/tensorboard; MLflow goes where its own variables (MLFLOW_TRACKING_URI) say, into
    the experiment `pkdot`. Raises ConfigError where the tracker is not installed.
    """
    if config.tracker == "none" or not is_first_rank():
        yield track_nothing
    elif config.tracker == "tensorboard":
        with _tensorboard(folder / "tensorboard", " ".join(protocol)) as track:
            yield track
    else:
        with _mlflow(config, " ".join(protocol)) as track:
            yield track


@contextmanager
def _tensorboard(folder: Path, protocol: str) -> Iterator[Track]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_text("protocol", protocol)
        yield writer.add_scalar


@contextmanager
def _mlflow(config: RunConfig, protocol: str) -> Iterator[Track]:
    try:
        import mlflow
    except ModuleNotFoundError:
        raise ConfigError("tracker: mlflow is not installed; run pip install '.[mlflow]'") from None
    mlflow.set_experiment("pkdot")
    with mlflow.start_run(run_name=f"{config.name}-seed{config.seed}-fold{config.fold}"):
        mlflow.log_params({"name": config.name, "task": config.task, "seed": config.seed, "fold": config.fold})
        mlflow.set_tag("protocol", protocol)

        def track(name: str, value: float, epoch: int) -> None:
            mlflow.log_metric(re.sub(r"[^\w./-]", "-", name), value, step=epoch)  # it refuses other characters

        yield track
