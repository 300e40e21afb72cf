"""The shelf: which bundles get on it, and which one answers."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundle_format
from models.bundle import MANIFEST, BundleError
from service.bundles.candidates import Candidates
from service.bundles.loader import ShelfReader, is_empty
from service.bundles.shelf import UnknownBundle
from service.runtime.provider_options import CPU
from service.runtime.providers import Providers
from service.threads.plan import ThreadPlan

ON_CPU = Providers((CPU,))
PLAN = ThreadPlan(cores=1, intra_op=1, decoders=1)


def reader(folder, **candidates):
    return ShelfReader(folder, providers=ON_CPU, plan=PLAN, **candidates)


def load(folder, **candidates):
    return reader(folder, **candidates).read()


@pytest.fixture(scope="module")
def shelf(bundles_folder):
    return load(bundles_folder)


def rewrite(path: Path, **changes: object) -> None:
    """Write the manifest again, with hashes of the files as they are now."""
    values = json.loads((path / MANIFEST).read_text(encoding="utf-8")) | changes
    del values["files"], values["schema_version"]
    bundle_format.write(path, values)


def test_every_bundle_of_a_folder_is_loaded_in_order(shelf):
    assert [(loaded.name, loaded.task) for loaded in shelf.bundles] == [
        ("pain-test", "pain"),
        ("affect-test", "valence-arousal"),
    ]


def test_a_single_bundle_is_a_shelf_of_one(pain_bundle):
    assert [loaded.name for loaded in load(pain_bundle).bundles] == ["pain-test"]


def test_a_bundle_is_found_by_task_and_name(shelf):
    assert shelf.find("pain", None).name == "pain-test"
    assert shelf.find("valence-arousal", "affect-test").name == "affect-test"


@pytest.mark.parametrize(
    ("task", "name", "sentence"),
    [
        ("pain", "other", "no bundle 'other' is loaded; for pain there is: pain-test"),
        ("pain", "affect-test", "'affect-test' answers valence-arousal, not pain; for pain there is: pain-test"),
    ],
)
def test_an_unknown_bundle_is_answered_with_the_known_ones(shelf, task, name, sentence):
    with pytest.raises(UnknownBundle, match=sentence):
        shelf.find(task, name)


def test_a_task_without_a_bundle_is_said_to_have_none(pain_bundle):
    with pytest.raises(UnknownBundle, match="no bundle for valence-arousal is loaded"):
        load(pain_bundle).find("valence-arousal", None)


def test_of_several_bundles_the_first_folders_is_the_default(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "b-newer", name="aaa", seed=5)
    make_pain_bundle(tmp_path / "a-older", name="zzz")

    shelf = load(tmp_path)

    assert shelf.find("pain", None).name == "zzz"
    assert shelf.find("pain", "aaa").name == "aaa"


def test_two_bundles_of_one_name_are_refused(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "one")
    make_pain_bundle(tmp_path / "two", seed=5)

    with pytest.raises(BundleError, match="two bundles are named 'pain-test'"):
        load(tmp_path)


def test_what_is_still_being_written_beside_a_bundle_is_not_read(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / ".pain.k3x", seed=5)
    assert is_empty(tmp_path)

    make_pain_bundle(tmp_path / "pain")
    assert [loaded.bundle.path.name for loaded in load(tmp_path).bundles] == ["pain"]


def test_equal_graphs_and_face_nets_are_loaded_once(tmp_path, make_pain_bundle):
    for folder, seed in (("one", 0), ("twin", 0), ("other", 5)):
        make_pain_bundle(tmp_path / folder, name=folder, seed=seed)

    shelf = load(tmp_path)
    one, twin, other = (shelf.find("pain", name) for name in ("one", "twin", "other"))

    face = frozenset({"face"})
    assert one.runners[face] is twin.runners[face]
    assert one.runners[face] is not other.runners[face]
    assert one.runners[face].key != other.runners[face].key
    assert one.face_nets is twin.face_nets is other.face_nets is not None
    assert len(shelf.runners()) == 2


@pytest.mark.parametrize(
    ("available", "taken"),
    [
        ({"face"}, {"face"}),
        ({"voice"}, {"voice"}),
        ({"face", "voice", "eda"}, {"face", "voice"}),
        ({"eda"}, None),
        (set(), None),
    ],
)
def test_the_runner_is_that_of_the_largest_graph_that_can_be_fed(shelf, available, taken):
    loaded = shelf.find("valence-arousal", None)

    route = loaded.runner_for(frozenset(available))

    if taken is None:
        assert route is None
    else:
        assert route is not None
        graph, runner = route
        assert set(graph.available) == taken
        assert runner is loaded.runners[frozenset(taken)]


def test_loaded_runners_are_warm_and_right(shelf):
    for loaded in shelf.bundles:
        for graph in loaded.bundle.manifest.graphs:
            runner = loaded.runners[frozenset(graph.available)]
            inputs, expected = loaded.bundle.golden(graph)
            np.testing.assert_allclose(runner.run(inputs), expected, atol=1e-4)
            assert runner.warm_up.seconds_per_item > 0


def test_the_face_nets_work(shelf):
    nets = shelf.find("pain", None).face_nets

    assert nets is not None
    assert nets.detect(np.zeros((120, 160, 3), np.uint8)) == []


def test_a_bundle_without_face_nets_has_none(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "bundle")
    shutil.rmtree(path / "face")
    rewrite(path, face=None)

    assert load(path).find("pain", None).face_nets is None


def test_a_folder_without_bundles_says_so(tmp_path):
    with pytest.raises(BundleError, match=r"holds no bundle: no manifest\.json"):
        load(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        load(tmp_path / "missing")


def test_a_damaged_bundle_is_named_with_its_file(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "good", name="good")
    bad = make_pain_bundle(tmp_path / "bad", name="bad")
    (bad / "card.md").write_text("changed")

    with pytest.raises(BundleError, match=r"bundle bad: card\.md does not match its SHA-256"):
        load(tmp_path)


def test_a_golden_output_that_the_runtime_does_not_reproduce_is_refused(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "bundle")
    with np.load(path / "golden" / "face.npz") as golden:
        arrays = dict(golden)
    np.savez(path / "golden" / "face.npz", **arrays | {"output": arrays["output"] + np.float32(0.01)})
    rewrite(path)

    with pytest.raises(BundleError, match=r"bundle bundle: face\.onnx: the golden output differs by 0\.01"):
        load(path)


def test_a_graph_that_the_runtime_cannot_load_is_refused(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "bundle")
    data = (path / "face.onnx").read_bytes()
    (path / "face.onnx").write_bytes(data.replace(b"ReduceMean", b"ReduceXean"))
    rewrite(path)

    with pytest.raises(BundleError, match=r"bundle bundle: face\.onnx: onnxruntime cannot load it"):
        load(path)


def test_golden_inputs_of_another_size_than_the_graph_takes_are_refused(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "bundle")
    with np.load(path / "golden" / "face.npz") as golden:
        arrays = dict(golden)
    np.savez(path / "golden" / "face.npz", **arrays | {"face": arrays["face"][:, :5]})
    inputs = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["inputs"]
    inputs["face"]["frames"] = 5
    rewrite(path, inputs=inputs)

    with pytest.raises(BundleError, match=r"face\.onnx: the golden input cannot be run: face: expected uint8"):
        load(path)


def test_a_face_net_that_does_not_load_is_refused(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "bundle")
    shutil.copy(path / "face.onnx", path / "face" / "landmarks.onnx")
    data = (path / "face.onnx").read_bytes()
    (path / "face" / "landmarks.onnx").write_bytes(data.replace(b"ReduceMean", b"ReduceXean"))
    rewrite(path)

    with pytest.raises(BundleError, match="bundle bundle: face/: a face net cannot be loaded"):
        load(path)


def test_face_nets_under_other_names_are_refused(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "bundle")
    (path / "face" / "landmarks.onnx").rename(path / "face" / "mesh.onnx")
    names = {"detector_short": "detector_short", "detector_full": "detector_full", "landmarks": "mesh"}
    rewrite(path, face={key: f"face/{name}.onnx" for key, name in names.items()})

    with pytest.raises(BundleError, match=r"bundle bundle: .*must lie in one folder as detector_short\.onnx"):
        load(path)


def test_of_a_folder_that_is_read_again_unchanged_bundles_are_the_same_objects(tmp_path, make_pain_bundle):
    for name in ("same", "changed"):
        make_pain_bundle(tmp_path / name, name=name)
    folder = reader(tmp_path)
    before = folder.read()
    shutil.rmtree(tmp_path / "changed")
    make_pain_bundle(tmp_path / "changed", name="changed", seed=5)

    after = folder.read()

    assert after.find("pain", "same") is before.find("pain", "same")
    assert after.find("pain", "changed") is not before.find("pain", "changed")
    assert after.find("pain", "changed").bundle.version != before.find("pain", "changed").bundle.version


def test_a_renamed_folder_keeps_its_sessions(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "one")
    folder = reader(tmp_path)
    before = folder.read().find("pain")
    (tmp_path / "one").rename(tmp_path / "two")

    after = folder.read().find("pain")

    assert after.bundle.path == tmp_path / "two"
    assert after.runners == before.runners
    assert after.face_nets is before.face_nets


def test_what_nobody_holds_is_freed(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "one")
    folder = reader(tmp_path)
    shelf = folder.read()
    session = weakref.ref(shelf.runners()[0].session)

    del shelf
    gc.collect()

    assert session() is None


def test_the_golden_window_is_kept_when_the_files_go(tmp_path, make_pain_bundle):
    path = make_pain_bundle(tmp_path / "one")
    loaded = load(tmp_path).find("pain")
    expected = loaded.bundle.golden(loaded.bundle.manifest.graphs[0])[0]["face"][0]
    shutil.rmtree(path)

    np.testing.assert_array_equal(loaded.golden[frozenset({"face"})]["face"], expected)


def test_a_request_finds_the_canary_in_its_bundles_place_or_behind_all(tmp_path, make_pain_bundle, affect_bundle):
    make_pain_bundle(tmp_path / "bundles" / "pain")
    shutil.copytree(affect_bundle, tmp_path / "bundles" / "affect")
    make_pain_bundle(tmp_path / "next" / "pain", seed=5)
    shelf = load(tmp_path / "bundles", canary=Candidates(folder=tmp_path / "next", share=0.5))
    (canary,) = shelf.canaries
    standing, affect = shelf.find("pain"), shelf.find("valence-arousal")

    # SHA-256 of "a" begins with ca (over a half), that of "b" with 3e (under it)
    others, tried = shelf.for_request("a"), shelf.for_request("b")

    assert (others.find("pain"), others.find("pain", "pain-test")) == (standing, standing)
    assert (tried.find("pain"), tried.find("pain", "pain-test")) == (canary, canary)
    assert tried.find("valence-arousal") is affect
    assert others.answering() == (affect, standing, canary)
    assert tried.answering() == (affect, canary, standing)
    assert shelf.runners() == [*affect.runners.values(), *standing.runners.values(), *canary.runners.values()]


def test_a_candidate_may_be_the_loaded_version_itself(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "bundles" / "pain")
    shutil.copytree(tmp_path / "bundles" / "pain", tmp_path / "next")

    shelf = load(tmp_path / "bundles", canary=Candidates(folder=tmp_path / "next", share=0.5))

    assert shelf.canaries[0].identity == shelf.bundles[0].identity
    assert len(shelf.runners()) == 1


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_an_empty_folder_holds_no_candidate_and_a_missing_one_is_refused(tmp_path, make_pain_bundle, kind):
    make_pain_bundle(tmp_path / "bundles" / "pain")
    (tmp_path / "next").mkdir()

    shelf = load(tmp_path / "bundles", **{kind: Candidates(folder=tmp_path / "next", share=0.5)})

    assert shelf.everything() == shelf.bundles
    with pytest.raises(BundleError, match=f"{kind}: .* is not a folder"):
        load(tmp_path / "bundles", **{kind: Candidates(folder=tmp_path / "missing", share=0.5)})


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_candidate_must_stand_beside_its_like(tmp_path, make_pain_bundle, affect_bundle, kind):
    make_pain_bundle(tmp_path / "bundles" / "pain")
    candidates = {kind: Candidates(folder=tmp_path / "next", share=0.5)}
    shutil.copytree(affect_bundle, tmp_path / "next" / "one")
    with pytest.raises(BundleError, match=f"{kind} affect-test: no bundle of this name is loaded, only pain-test"):
        load(tmp_path / "bundles", **candidates)

    rewrite(tmp_path / "next" / "one", name="pain-test")
    with pytest.raises(BundleError, match=f"{kind} pain-test: its task must equal the loaded bundle pain-test's"):
        load(tmp_path / "bundles", **candidates)


def test_a_shadow_has_sessions_of_its_own(tmp_path, make_pain_bundle):
    make_pain_bundle(tmp_path / "bundles" / "pain")
    shadow = Candidates(folder=tmp_path / "bundles" / "pain", share=0.5)

    shelf = load(tmp_path / "bundles", shadow=shadow)

    face = frozenset({"face"})
    assert shelf.shadows[0].runners[face] is not shelf.bundles[0].runners[face]
    assert shelf.runners() == [shelf.bundles[0].runners[face]]
