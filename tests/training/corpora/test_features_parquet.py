"""Feature corpora in Parquet: columns of a modality come together, and what is wrong is named with its column."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.corpora.clip import CorpusError
from training.corpora.features import read_features

NAN = np.nan


def parquet(path: Path, columns: dict[str, Any], metadata: object) -> Path:
    table = pa.table(columns).replace_schema_metadata({"pkdot": json.dumps(metadata)})
    pq.write_table(table, path)
    return path


def test_parquet_columns_of_a_modality_come_together(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "study.parquet",
        {
            "label": pa.array([0, 1, None]),
            "group": pa.array(["anna", "anna", "ben"]).dictionary_encode(),
            "face.smile": [0.5, None, 0.25],
            "face.frown": [1, 2, 3],
            "eda": pa.array([[[1.0, 2.0]], None, [[3.0, 4.0]]]),
        },
        {"task": "classification", "classes": ["calm", "tense"]},
    )

    corpus = read_features(path)

    assert corpus.name == "study"
    assert corpus.labels.tolist() == [0, 1, -1]
    assert corpus.group == ("anna", "anna", "ben")
    np.testing.assert_array_equal(corpus.modalities["face"], np.array([[0.5, 1], [NAN, 2], [0.25, 3]], np.float32))
    np.testing.assert_array_equal(corpus.modalities["eda"], np.array([[[1, 2]], [[NAN, NAN]], [[3, 4]]], np.float32))
    assert corpus.observed("eda").tolist() == [True, False, True]


def test_parquet_values_are_columns_with_their_names(tmp_path: Path) -> None:
    columns = {"label_fear": [1.0, 2.0], "label_joy": [3.0, 4.0], "group": ["a", "b"], "x.y": [0.0, 1.0]}

    corpus = read_features(parquet(tmp_path / "a.parquet", columns, {"task": "regression"}))
    turned = read_features(parquet(tmp_path / "b.parquet", columns, {"task": "regression", "values": ["joy", "fear"]}))

    assert (corpus.values, corpus.labels.tolist()) == (("fear", "joy"), [[1, 3], [2, 4]])
    assert (turned.values, turned.labels.tolist()) == (("joy", "fear"), [[3, 1], [4, 2]])


@pytest.mark.parametrize(
    ("change", "metadata", "sentence"),
    [
        (
            {"eda": [[1.0], [1.0, 2.0]]},
            {},
            "f.parquet: column eda is list<element: double>: expected text, numbers, or",
        ),
        ({"eda": [b"x", b"y"]}, {}, "f.parquet: column eda is binary"),
        ({"face.b": ["x", "y"]}, {}, "f.parquet: column face.b holds <U1: expected a number a row."),
        ({"face": [[1.0], [2.0]]}, {}, "f.parquet has a column face and face.<feature>: expected one of the two."),
        ({"label_a": [1.0, 2.0]}, {}, "f.parquet has the columns label_a: expected label alone, or label_"),
        ({}, {"classes": 3}, "f.parquet: classes in pkdot's metadata: expected a text, true or false, or texts."),
        ({}, {"task": "love"}, "f.parquet: task is 'love'"),
        ({"group": pa.array(["a", None])}, {}, "f.parquet: group is <U1 (2,), empty in row 1"),
    ],
)
def test_a_bad_table_is_named_with_its_column(
    tmp_path: Path, change: dict[str, Any], metadata: dict[str, Any], sentence: str
) -> None:
    columns = {"label": [0, 1], "group": ["a", "b"], "face.a": [1.0, 2.0]}
    about = {"task": "classification", "classes": ["x", "y"]}
    path = parquet(tmp_path / "f.parquet", {**columns, **change}, {**about, **metadata})

    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_features(path)


def test_columns_of_any_type_that_holds_text_numbers_or_truth_values_can_have_nulls(tmp_path: Path) -> None:
    columns = {
        "label": pa.array([0, None, 1], type=pa.uint8()),
        "group": pa.array(["anna", "ben", "ben"], type=pa.string_view()),
        "face.smile": pa.array([True, None, False]),
        "face.frown": pa.array([1, 2, None], type=pa.uint16()),
        "face.gaze": pa.array([Decimal("0.25"), None, Decimal("-1.50")]),
        "eda": pa.array([[Decimal(1), Decimal(2)], None, [Decimal(3), None]]),
    }

    corpus = read_features(parquet(tmp_path / "f.parquet", columns, {"task": "classification", "classes": ["x", "y"]}))

    assert corpus.labels.tolist() == [0, -1, 1]
    assert corpus.group == ("anna", "ben", "ben")
    np.testing.assert_array_equal(corpus.modalities["face"], [[1, 1, 0.25], [NAN, 2, NAN], [0, NAN, -1.5]])
    np.testing.assert_array_equal(corpus.modalities["eda"], [[1, 2], [NAN, NAN], [3, NAN]])


def test_truth_values_are_no_labels(tmp_path: Path) -> None:
    for label in ([True, False], [True, None]):
        columns = {"label": pa.array(label), "group": ["anna", "ben"], "face.smile": [1.0, 2.0]}
        path = parquet(tmp_path / "f.parquet", columns, {"task": "classification", "classes": ["x", "y"]})

        with pytest.raises(CorpusError, match=r"label is .*: expected whole numbers from 0 to 1"):
            read_features(path)


def test_text_that_is_not_utf8_is_named_with_its_column(tmp_path: Path) -> None:
    offsets, letters = np.array([0, 1, 2], np.int32), pa.py_buffer(b"\xff\xfe")
    latin = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets.tobytes()), letters])
    about = {"task": "classification", "classes": ["x", "y"]}
    columns = {"label": [0, 1], "group": ["a", "b"], "face.abcd": [1.0, 2.0]}

    path = parquet(tmp_path / "f.parquet", {**columns, "group": latin}, about)
    with pytest.raises(CorpusError, match=r"^f\.parquet: column group holds text that is not UTF-8: expected UTF-8\.$"):
        read_features(path)

    whole = parquet(tmp_path / "f.parquet", columns, about).read_bytes()
    path.write_bytes(whole.replace(b"face.abcd", b"face.\xff\xfe\xff\xfe"))
    with pytest.raises(
        CorpusError, match=r"^f\.parquet: a column's name or the metadata is not UTF-8: expected UTF-8 te"
    ):
        read_features(path)


def test_a_damaged_table_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    path.write_bytes(b"PAR1 no more")

    with pytest.raises(CorpusError, match=r"f\.parquet is cut short or no Parquet file") as caught:
        read_features(path)
    assert "\n" not in str(caught.value)
