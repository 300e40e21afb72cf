"""All rows of the table over seeds and folds, in one run that goes on where it was stopped.

All rows of a seed and fold, a cell, share data, split, encoders and their weights, initial fusion, steps and selection
rule. A cell is a folder; a row that is done has its predictions there, or the reason why it did not converge, and is
not run again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError
from torch import nn
from tqdm import tqdm

from models.nets.teacher import Teacher
from training.compare.cells import (
    Results,
    Row,
    cell_folder,
    cell_is_done,
    gather,
    predictions_file,
    reason_file,
    row_is_done,
)
from training.compare.failures import Failure, write_reason
from training.config import ConfigError, RunConfig, reason
from training.corpora.clip import Corpus
from training.corpora.splits import SplitError, fold_count
from training.data.contents import Contents, contents_of, require_same
from training.data.windows import CorpusWindows, to_deal
from training.data.workers import end_with_parent
from training.errors import NotConverged
from training.run_folder import RunFolder
from training.scores.predictions import Predictions
from training.stages.calibration import fitted_temperature, temperature_metrics
from training.stages.checks import check_encoders
from training.stages.evaluate import predict_constant, predict_people
from training.stages.kept import load_row, shared_stages, student_stages
from training.stages.material import Encoders
from training.stages.methods import ROWS
from training.stages.prepare import deal, open_setting, read_windows
from training.stages.setting import Setting
from training.stages.student import StudentError, forget_ratios

TEACHER = "teacher"
CONSTANT = "constant"
"""The answer that ignores its input."""
ReadCorpus = tuple[Corpus, CorpusWindows]


class Compared(NamedTuple):
    """Every row, in one of two places."""

    results: Results
    failures: dict[str, Failure]
    """Rows that did not converge everywhere."""
    cells: list[RunConfig]
    """One configuration for each seed and fold."""
    groups: Mapping[str, Mapping[str, str]]
    """What the corpus says of each person: attribute to group."""


def check_methods(config: RunConfig, methods: Sequence[str]) -> None:
    """Raise ConfigError where there is no row, and where what one changes does not go with the rest of the recipe."""
    if not any(config.missing(available) for available in config.students):
        raise ConfigError(
            f"{config.name}: students: nothing is privileged, since each has all of modalities "
            f"{list(config.modalities)}; leave out of one what is not there in the field"
        )
    for name in methods:
        method = ROWS[name]
        try:
            student = method.change(config.student)
        except ValidationError as error:
            raise ConfigError(f"the row {name!r} cannot be made from {config.name}: student: {reason(error)}") from None
        of_another = "OT" in method.terms and method.teacher not in ("joint", "shuffled")
        if student.bank and (of_another or "OT to labels" in method.terms):
            raise ConfigError(
                f"the row {name!r} cannot be made from {config.name}: student.bank holds what the joint teacher says, "
                "and this row has another; leave the row or the bank out"
            )


def rows_of(config: RunConfig, methods: Sequence[str]) -> list[Row]:
    """The teacher, the constant answer, then every method for every student that has something to hallucinate."""
    students = [available for available in config.students if config.missing(available)]
    references = (Row(TEACHER, config.modalities), Row(CONSTANT, ()))
    return [*references, *(Row(m, available) for available in students for m in methods)]


def cells_of(config: RunConfig, seeds: Sequence[int], folds: int | None, read: ReadCorpus) -> list[RunConfig]:
    """One configuration for each seed and fold; `folds` limits how many of the protocol's are run, from the first."""
    clips, unlabelled = to_deal(read[0], read[1].windows)
    count = fold_count(clips, config.splits, unlabelled)
    return [
        config.model_copy(update={"seed": seed, "fold": fold})
        for seed in seeds
        for fold in range(min(count, folds or count))
    ]


class Plan(NamedTuple):
    """What is to be done of one recipe."""

    name: str
    path: Path
    """The folder of its cells."""
    rows: list[Row]
    cells: list[RunConfig]
    todo: list[RunConfig]
    """Those of the cells that are not done yet."""
    contents: Contents
    """What the corpus holds."""
    groups: Mapping[str, Mapping[str, str]]
    """What the corpus says of each person: attribute to group."""


def plan(config: RunConfig, path: Path, seeds: Sequence[int], methods: Sequence[str], *, folds: int | None) -> Plan:
    """What is to be done, from one reading of the corpus, which is not kept in memory; nothing is trained.

    Raises ConfigError where a row and the recipe do not go together, or where a cell was made with another
    configuration, or from a corpus that held something else: a row of one corpus is not to be compared with one of
    another. Raises SplitError where one of the cells could not be trained.
    """
    check_methods(config, methods)
    check_encoders(config)
    rows = rows_of(config, methods)
    read = read_windows(config)
    cells, contents = cells_of(config, seeds, folds, read), contents_of(*read)
    _claim(cells, contents, path)
    todo = [cell for cell in cells if not cell_is_done(cell_folder(path, cell), rows)]
    check_cells(todo, read, rows)
    return Plan(config.name, path, rows, cells, todo, contents, read[0].groups)


def compare(planned: Plan, *, jobs: int) -> Compared:
    """Run what is not done yet, `jobs` cells at once, and gather the predictions."""
    name, path, rows, cells, todo, contents, groups = planned
    run = partial(run_cell, path=path, rows=rows, contents=contents)
    done = sum(row_is_done(cell_folder(path, cell), row) for cell in cells for row in rows)
    with tqdm(total=len(cells) * len(rows), initial=done, desc=name, unit="row") as bar:
        if jobs == 1:
            for cell in todo:
                for _ in run(cell):
                    bar.update()
        elif todo:
            with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_work) as pool:
                for count in pool.map(partial(_whole_cell, run), todo):
                    bar.update(count)
    return Compared(*gather(path, cells, rows), cells, groups)


def _claim(cells: Sequence[RunConfig], contents: Contents, path: Path) -> None:
    """Take over all that is there of the cells, when it was made from `contents` and with their configurations."""
    folders = [RunFolder(cell_folder(path, cell)) for cell in cells]
    for cell, folder in zip(cells, folders, strict=True):
        folder.check(cell, resume=True)
    for folder in folders:
        require_same(folder.contents(), contents, path)
    for folder in folders:
        folder.adopt(contents)


def check_cells(cells: Sequence[RunConfig], read: ReadCorpus, rows: Sequence[Row]) -> None:
    """Raise SplitError where one of `cells`, which differ in seed and fold, has a part that cannot do its work.

    So it is where a row's own batch, or k, is more than there are windows: it would be what its name does not say.
    """
    for cell in cells:
        try:
            windows = len(deal(cell, *read, Path(), torch.device("cpu")).pairs)
            for row in rows:
                _check_row_fits(row, cell, windows)
        except SplitError as error:
            raise SplitError(f"seed {cell.seed}, fold {cell.fold}: {error}") from None


def _check_row_fits(row: Row, cell: RunConfig, windows: int) -> None:
    if row.method in (TEACHER, CONSTANT):
        return
    student = ROWS[row.method].change(cell.student)
    keys = ("batch",) if student.bank else ("batch", "k")
    own = {key: getattr(student, key) for key in keys if getattr(student, key) != getattr(cell.student, key)}
    if too_large := [f"{key} {value}" for key, value in own.items() if value > windows]:
        raise SplitError(
            f"the row {row.method!r} has {too_large[0]}, but the train people have only {windows} windows with "
            f"{', '.join(cell.modalities)}; leave the row out"
        )


def _whole_cell(run: Callable[[RunConfig], Iterator[Row]], cell: RunConfig) -> int:
    """How many rows there were to do."""
    return sum(1 for _ in run(cell))


def run_cell(cell: RunConfig, *, path: Path, rows: Sequence[Row], contents: Contents) -> Iterator[Row]:
    """Train and test every row of one seed and fold that is not done yet, and give each when it is.

    The corpus must still hold `contents`.
    """
    folder = RunFolder(cell_folder(path, cell))
    folder.check(cell, resume=True)
    with open_setting(cell, folder.path) as setting:
        require_same(contents, setting.contents, path)
        folder.begin(cell, contents, resume=True)
        folder.add_metrics(
            "protocol", {"split": setting.split.sentence, "notes": setting.corpus.notes, "untaught": setting.untaught}
        )
        encoders, teacher = shared_stages(setting, folder)
        for row in rows:
            if row_is_done(folder.path, row):
                continue
            try:
                said = _test_row(setting, folder, encoders, teacher, row)
            except (StudentError, NotConverged) as error:  # the other rows do not need this one
                write_reason(reason_file(folder.path, row), str(error))
                forget_ratios(folder.scratch, row.file)
            else:
                said.save(predictions_file(folder.path, row), setting.protocol)
            yield row


def _test_row(setting: Setting, folder: RunFolder, encoders: Encoders, teacher: Teacher, row: Row) -> Predictions:
    """Train a row, where its checkpoint is not there yet, and ask it about the test people."""
    if row.method == CONSTANT:
        return predict_constant(setting, setting.test)
    net: nn.Module = teacher
    needed = setting.config.modalities
    if row.method != TEACHER:
        method = ROWS[row.method]
        student_stages(setting, folder, encoders, teacher, row.available, method, row.file)
        net = load_row(setting, folder, row.available, row.file, method)
        needed = needed if method.graph == "oracle" else row.available
    fit = fitted_temperature(setting, net, needed)
    said = predict_people(setting, net, needed, setting.test, temperature=fit and fit.temperature)
    if fit is not None:
        folder.add_metrics(f"temperature_fit {row.file}", temperature_metrics(fit, said))
    return said


def _begin_work() -> None:
    """Several cells at once share the cores."""
    end_with_parent()
    torch.set_num_threads(1)
