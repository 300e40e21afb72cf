"""A bundle is used only if every byte of it is what its manifest says; each damage is named with its file."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models import bundle as bundle_format
from models.bundle import MANIFEST, BundleError
from models.manifest import Manifest, schema_support
from models.spec import InputSpec, LogMelSpec

STEPS, MELS = 10, 8
WEIGHT = np.array([0.25, -0.5], np.float32)


def graph(opset: int = 18, domain: str = "") -> onnx.ModelProto:
    """values = tanh(mean over all of the voice x two weights)."""
    nodes = [
        helper.make_node("ReduceMean", ["sound", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "weight"], ["product"]),
        helper.make_node("Tanh", ["product"], ["values"], domain=domain),
    ]
    constants = {"axes": np.array([1, 2]), "last": np.array([1]), "weight": WEIGHT}
    fed = helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["batch", MELS, STEPS])
    given = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 2])
    body = helper.make_graph(nodes, "g", [fed], [given], [numpy_helper.from_array(a, n) for n, a in constants.items()])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def expected(sound: NDArray[np.generic]) -> NDArray[np.float32]:
    mean = np.asarray(sound, np.float64).mean(axis=(1, 2))
    return np.tanh(mean[:, None] * WEIGHT).astype(np.float32)


def golden(**changes: Any) -> dict[str, NDArray[Any]]:
    sound = np.random.default_rng(3).uniform(-13, 2, (2, MELS, STEPS)).astype(np.float32)
    return {"voice": sound, "output": expected(sound)} | changes


def manifest(**changes: Any) -> dict[str, object]:
    entry = {
        "available": ["voice"],
        "hallucinated": ["face"],
        "file": "voice.onnx",
        "inputs": {"voice": "sound"},
        "output": "values",
        "golden": "golden/voice.npz",
        "calibration": {"quantiles": {"valence": 0.2, "arousal": None}, "people": 3, "windows": 9, "reason": "Few."},
    }
    return {
        "name": "voice-test",
        "task": "valence-arousal",
        "prevalent": ["voice"],
        "privileged": ["face"],
        "inputs": InputSpec(window_s=0.1, hop_s=0.1, voice=LogMelSpec(mels=MELS)),
        "graphs": [entry],
        "face": None,
        "provenance": {
            "trained_on": "synthetic affwild2",
            "synthetic": True,
            "protocol": "none",
            "metrics": {},
            "git_revision": None,
            "licences": {},
        },
    } | changes


def write(path: Path, model: onnx.ModelProto | None = None, arrays: dict[str, NDArray[Any]] | None = None) -> Path:
    """A bundle whose hashes are right, whatever its files hold."""
    (path / "golden").mkdir(parents=True)
    onnx.save(model or graph(), path / "voice.onnx")
    np.savez(path / "golden" / "voice.npz", **(golden() if arrays is None else arrays))
    return bundle_format.write(path, manifest()).path


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whole") / "bundle")


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A bundle that the test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    edit(values)
    (path / MANIFEST).write_text(json.dumps(values), encoding="utf-8")


def test_a_written_bundle_is_loaded_as_it_was_meant(whole):
    loaded = bundle_format.load(whole)

    assert loaded.manifest.name == "voice-test"
    assert sorted(loaded.manifest.files) == ["golden/voice.npz", "voice.onnx"]
    assert loaded.file("golden/voice.npz") == whole / "golden" / "voice.npz"
    assert len(loaded.version) == 12
    bundle_format.check(whole)


def test_the_version_is_that_of_the_manifest(whole, bundle):
    before = bundle_format.load(whole).version
    assert bundle_format.load(bundle).version == before

    edit_manifest(bundle, lambda values: values.update(name="another"))

    assert bundle_format.load(bundle).version != before


def test_a_changed_byte_in_any_file_is_found(bundle):
    for name in ("voice.onnx", "golden/voice.npz"):
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)

        with pytest.raises(BundleError, match=f"{name} does not match its SHA-256"):
            bundle_format.load(bundle)

        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)


def test_a_missing_file_is_found(bundle):
    (bundle / "voice.onnx").unlink()

    with pytest.raises(BundleError, match=r"voice\.onnx is missing"):
        bundle_format.load(bundle)


def test_a_file_that_cannot_be_read_is_named(bundle, monkeypatch):
    def refuse(file):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(bundle_format, "_sha256", refuse)

    with pytest.raises(BundleError, match=r"/golden/\w+\.npz cannot be read \(Permission denied\)"):
        bundle_format.load(bundle)


@pytest.mark.parametrize("name", ["golden/extra.bin", "manifest.json.bak", "golden/manifest.json", ".hidden"])
def test_an_unlisted_file_is_found(bundle, name):
    (bundle / name).write_bytes(b"x")

    with pytest.raises(BundleError, match=f"{name} is not listed"):
        bundle_format.load(bundle)


def test_links_are_refused_even_to_equal_content(bundle, whole):
    (bundle / "voice.onnx").unlink()
    (bundle / "voice.onnx").symlink_to(whole / "voice.onnx")

    with pytest.raises(BundleError, match=r"voice\.onnx is a link"):
        bundle_format.load(bundle)


def test_a_linked_folder_and_a_pipe_are_refused(bundle, whole, tmp_path):
    piped = Path(shutil.copytree(bundle, tmp_path / "piped"))
    shutil.rmtree(bundle / "golden")
    (bundle / "golden").symlink_to(whole / "golden", target_is_directory=True)
    os.mkfifo(piped / "pipe")

    with pytest.raises(BundleError, match="golden is a link"):
        bundle_format.load(bundle)
    with pytest.raises(BundleError, match="pipe is a link or a device"):
        bundle_format.load(piped)


def test_a_linked_manifest_is_refused(bundle, whole):
    (bundle / MANIFEST).unlink()
    (bundle / MANIFEST).symlink_to(whole / MANIFEST)

    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        bundle_format.load(bundle)


@pytest.mark.parametrize("path", ["../voice.onnx", "a/../../voice.onnx", "/voice.onnx", "./voice.onnx", "a\\b", "a\n"])
def test_paths_that_leave_the_bundle_are_refused(bundle, path):
    edit_manifest(bundle, lambda values: values["graphs"][0].update(file=path))

    with pytest.raises(BundleError, match=r"manifest\.json: graphs\.0\.file"):
        bundle_format.load(bundle)


@pytest.mark.parametrize(
    ("version", "sentence"), [("2.0", "has schema 2.0, .* upgrade"), ("x", "not JSON with a schema_version")]
)
def test_other_schemas_are_refused_with_advice(bundle, version, sentence):
    edit_manifest(bundle, lambda values: values.update(schema_version=version))

    with pytest.raises(BundleError, match=rf"manifest\.json .*{sentence}"):
        bundle_format.load(bundle)


def test_a_later_minor_schema_is_read_without_its_additions(bundle):
    edit_manifest(bundle, lambda values: values.update(schema_version="1.9", invented=1))

    assert bundle_format.load(bundle).manifest.schema_version == "1.9"


def test_a_manifest_of_an_earlier_version_is_of_log_mel_energies(bundle):
    edit_manifest(bundle, lambda values: values.update(schema_version="1.3"))

    assert bundle_format.load(bundle).manifest.inputs.voice == LogMelSpec(mels=MELS)


def test_a_golden_voice_of_another_form_is_refused(bundle):
    edit_manifest(bundle, lambda values: values["inputs"].update(voice={"form": "waveform"}))
    loaded = bundle_format.load(bundle)

    with pytest.raises(BundleError, match=r"voice is float32 \(2, 8, 10\), the manifest says float32 \(2, 1600\)"):
        loaded.golden(loaded.manifest.graphs[0])


def test_an_unknown_key_of_this_schema_is_refused(bundle):
    edit_manifest(bundle, lambda values: values.update(invented=1))

    with pytest.raises(BundleError, match=r"invented: Extra inputs"):
        bundle_format.load(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": null}', "[" * 200_000, "\x00"])
def test_a_manifest_that_is_no_manifest_is_refused(bundle, text):
    (bundle / MANIFEST).write_text(text, encoding="utf-8")

    with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
        bundle_format.load(bundle)


def test_an_endless_manifest_is_refused_unread(bundle):
    with (bundle / MANIFEST).open("wb") as file:
        file.truncate(bundle_format.MAX_MANIFEST_BYTES + 1)

    with pytest.raises(BundleError, match=r"manifest\.json is larger than"):
        bundle_format.load(bundle)


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda values: values.update(nmae="typo"), "nmae"),
        (lambda values: values.pop("task"), "task"),
        (lambda values: values["files"].pop("voice.onnx"), "files without a hash: voice.onnx"),
        (lambda values: values["graphs"][0]["calibration"]["quantiles"].pop("arousal"), "calibration must name"),
        (lambda values: values["graphs"][0].update(inputs={"face": "x"}), "differ from"),
        (lambda values: values["inputs"].update(voice=None), "'voice', which the input specification does not"),
        (lambda values: values["graphs"].append(values["graphs"][0]), "two graphs serve the same set"),
        (lambda values: values.update(levels=["a", "b"]), "valence-arousal has 2 levels"),
        (lambda values: values["inputs"].update(window_s=float("nan")), "window_s"),
        (lambda values: values["inputs"].update(voice={"form": "waveform", "mels": 8}), r"json: inputs\.voice\.mels: "),
        (
            lambda values: values["inputs"].update(voice={"form": "spectrum"}),
            r"json: inputs\.voice: expected keys, .* f",
        ),
        (lambda values: values["graphs"][0].update(output_scale=[1.0]), "output_scale holds 1 of 0 values"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundle, edit, where):
    edit_manifest(bundle, edit)

    with pytest.raises(BundleError, match=where) as caught:
        bundle_format.load(bundle)

    assert str(caught.value).startswith(MANIFEST)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path):
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        bundle_format.load(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        bundle_format.load(tmp_path / "missing")


def external() -> onnx.ModelProto:
    model = graph()
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="golden/voice.npz")
    return model


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (external(), "keeps weights in another file"),
        (graph(domain="com.evil"), "uses operators of com.evil"),
        (graph(opset=24), "needs opset 24"),
        (onnx.ModelProto(ir_version=9), "it holds no graph"),
    ],
    ids=["external data", "custom operators", "newer opset", "no graph"],
)
def test_a_graph_that_a_service_must_not_load_is_refused(tmp_path, model, sentence):
    with pytest.raises(BundleError, match=rf"voice\.onnx.*{sentence}"):
        write(tmp_path / "bundle", model=model)


def test_the_golden_check_gives_the_largest_difference(whole):
    loaded = bundle_format.load(whole)

    assert bundle_format.check_golden(loaded, lambda _, arrays: expected(arrays["voice"])) == 0
    off = bundle_format.check_golden(loaded, lambda _, arrays: expected(arrays["voice"]) + np.float32(5e-4))
    assert off == pytest.approx(5e-4, rel=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda output: output + 0.01,
        lambda output: output * np.nan,
        lambda output: output[:1],
        lambda output: output[:, :1],
        lambda output: np.concatenate([output[:1], output[1:] + 1]),
    ],
    ids=["off", "NaN", "a row less", "a column less", "one row off"],
)
def test_another_golden_output_is_refused(whole, wrong):
    with pytest.raises(BundleError, match=r"voice\.onnx: the golden"):
        bundle_format.check_golden(bundle_format.load(whole), lambda _, arrays: wrong(expected(arrays["voice"])))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"voice": golden()["voice"]}, "holds no array output"),
        (golden(voice=golden()["voice"].astype(np.float64)), "voice is float64"),
        (golden(voice=golden()["voice"][:1]), r"voice is float32 \(1, 8, 10\), the manifest says float32 \(2, 8, 10\)"),
        (golden(output=golden()["output"] * np.float32("nan")), "expected finite"),
        (golden(output=golden()["output"][:, :1]), r"expected finite \(1 or more, 2\)"),
        (golden(output=golden()["output"][:0], voice=golden()["voice"][:0]), "expected finite"),
        (golden(output=np.array([["a", "b"]])), "expected finite"),
        (golden(output=np.array([{}, None], object)), "no npz of plain arrays"),
    ],
)
def test_golden_arrays_that_do_not_fit_the_manifest_are_refused(tmp_path, arrays, sentence):
    loaded = bundle_format.load(write(tmp_path / "bundle", arrays=arrays))

    with pytest.raises(BundleError, match=rf"golden/voice\.npz.*{sentence}"):
        bundle_format.check_golden(loaded, lambda _, fed: expected(fed["voice"]))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_a_golden_file_that_is_no_npz_is_refused(tmp_path, content):
    path = write(tmp_path / "bundle")
    (path / "golden" / "voice.npz").write_bytes(content)
    loaded = bundle_format.write(path, manifest())

    with pytest.raises(BundleError, match=r"golden/voice\.npz is no npz"):
        loaded.golden(loaded.manifest.graphs[0])


def test_the_graph_that_uses_most_of_what_is_there_is_chosen(whole):
    values = json.loads((whole / MANIFEST).read_text(encoding="utf-8"))
    values["inputs"]["face"] = {}
    first = values["graphs"][0]
    both = {**first, "available": ["face", "voice"], "inputs": {"face": "picture", "voice": "sound"}}
    parsed = Manifest.model_validate_json(json.dumps(values | {"graphs": [first, both]}))

    assert parsed.graph_for(frozenset({"voice"})) == parsed.graphs[0]
    assert parsed.graph_for(frozenset({"voice", "face", "text"})) == parsed.graphs[1]
    assert parsed.graph_for(frozenset({"face"})) is None


@pytest.mark.parametrize(
    ("version", "support"),
    [("1.0", "whole"), ("1.99", "known part"), ("0.3", "whole"), ("2.0", "newer"), ("10.0", "newer")],
)
def test_a_schema_is_read_up_to_the_own_major_version(version, support):
    assert schema_support(version) == support
