"""Runners and providers, with real graphs in the real runtime."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import bundle as bundle_format
from models.bundle import Bundle
from service.runtime import BUCKETS, CPU, CUDA, IDENTITY, GraphError, GraphRunner, Providers, ProvidersError

ON_CPU = Providers((CPU,))


@pytest.fixture(scope="module")
def affect(affect_bundle: Path) -> Bundle:
    return bundle_format.load(affect_bundle)


def runner_of(bundle: Bundle, *available: str) -> GraphRunner:
    graph = next(graph for graph in bundle.manifest.graphs if graph.available == available)
    return GraphRunner(bundle.file(graph.file), graph, providers=ON_CPU, intra_op_threads=1)


@pytest.fixture(scope="module")
def both(affect: Bundle) -> GraphRunner:
    return runner_of(affect, "face", "voice")


def test_a_runner_gives_the_golden_output_from_arrays_by_modality(affect, both):
    inputs, expected = affect.golden(both.graph)

    output = both.run(inputs)

    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_a_model_can_be_given_as_bytes(affect, both):
    inputs, expected = affect.golden(both.graph)
    data = affect.file(both.graph.file).read_bytes()

    output = GraphRunner(data, both.graph, providers=ON_CPU, intra_op_threads=1).run(inputs)

    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_rows_are_the_same_alone_and_in_any_batch(affect, both):
    inputs, _ = affect.golden(both.graph)
    many = {modality: np.resize(array, (7, *array.shape[1:])) for modality, array in inputs.items()}
    many["voice"] *= np.linspace(0, 1, 7, dtype=np.float32)[:, None, None]

    together = both.run(many)

    for row in range(7):
        alone = both.run({modality: array[row : row + 1] for modality, array in many.items()})
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 8, 32, 33, 70])
def test_padding_to_buckets_changes_no_row(affect, size):
    plain, padding = runner_of(affect, "voice"), runner_of(affect, "voice")
    padding.buckets = BUCKETS
    seen: list[int] = []
    run_checked = padding.run_checked
    padding.run_checked = lambda inputs: seen.append(len(inputs["voice"])) or run_checked(inputs)
    rng = np.random.default_rng(0)
    inputs = {"voice": rng.uniform(-13, 2, (size, 64, 200)).astype(np.float32)}

    output = padding.run(inputs)

    np.testing.assert_allclose(output, plain.run(inputs), atol=1e-6)
    assert set(seen) <= set(BUCKETS)
    assert sum(seen) >= size


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"face": None}, r"takes \['face', 'voice'\]; got \['voice'\]"),
        ({"eda": np.zeros((2, 1))}, r"got \['eda', 'face', 'voice'\]"),
        ({"voice": np.zeros((2, 64, 200))}, r"voice: expected float32 .*; got float64"),
        ({"voice": np.zeros((2, 64, 199), np.float32)}, r"voice: expected .*64, 200.*; got float32 \(2, 64, 199\)"),
        ({"voice": np.zeros((64, 200), np.float32)}, r"got float32 \(64, 200\)"),
        ({"face": np.zeros((2, 10, 112, 112, 3), np.float32)}, "face: expected uint8"),
        ({"voice": np.zeros((3, 64, 200), np.float32)}, r"one batch size .* got \[2, 3\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(affect, both, change, sentence):
    inputs, _ = affect.golden(both.graph)
    changed = {modality: array for modality, array in (inputs | change).items() if array is not None}

    with pytest.raises(ValueError, match=sentence):
        both.run(changed)


def test_an_empty_batch_is_refused(both):
    inputs = {"face": np.zeros((0, 10, 112, 112, 3), np.uint8), "voice": np.zeros((0, 64, 200), np.float32)}

    with pytest.raises(ValueError, match="at least 1"):
        both.run(inputs)


def test_values_that_are_not_finite_are_given_back_as_they_are(affect):
    voice = np.zeros((2, 64, 200), np.float32)
    voice[1, 0, 0] = np.nan

    output = runner_of(affect, "voice").run({"voice": voice})

    assert np.isfinite(output[0]).all()
    assert np.isnan(output[1]).all()


def test_threads_share_a_runner(affect):
    runner = runner_of(affect, "voice")
    inputs = [{"voice": np.full((1, 64, 200), -value, np.float32)} for value in range(20)]
    expected = [runner.run(one) for one in inputs]

    with ThreadPoolExecutor(4) as threads:
        outputs = list(threads.map(runner.run, inputs * 5))

    np.testing.assert_array_equal(outputs, expected * 5)


def test_warming_up_measures_every_batch_size(affect):
    runner = runner_of(affect, "voice")
    example, _ = affect.golden(runner.graph)
    sizes: list[int] = []
    run_checked = runner.run_checked
    runner.run_checked = lambda inputs: sizes.append(len(inputs["voice"])) or run_checked(inputs)

    took = runner.warm(example)

    assert sorted(set(sizes)) == [1, 8]
    assert took == runner.warm_up
    assert 0 < took.seconds_per_item <= took.slowest_batch_s


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inputs": {"voice": "other"}}, "takes voice_input, but the manifest feeds other"),
        ({"output": "other"}, "has no output 'other', only values"),
    ],
)
def test_a_graph_that_is_not_as_the_manifest_says_is_refused(affect, change, sentence):
    spec = runner_of(affect, "voice").graph.model_copy(update=change)

    with pytest.raises(GraphError, match=rf"voice\.onnx: .*{sentence}"):
        GraphRunner(affect.file("voice.onnx"), spec, providers=ON_CPU, intra_op_threads=1)


def test_bytes_that_are_no_graph_are_refused_with_the_files_name(affect):
    spec = runner_of(affect, "voice").graph

    with pytest.raises(GraphError, match=r"voice\.onnx: onnxruntime cannot load it"):
        GraphRunner(b"nonsense", spec, providers=ON_CPU, intra_op_threads=1)


def test_the_probe_is_a_valid_graph():
    onnx.checker.check_model(onnx.load_from_string(IDENTITY), full_check=True)
    assert ON_CPU.failure() is None


def test_a_provider_that_is_not_installed_is_an_error_that_names_what_is_there():
    with pytest.raises(ProvidersError, match=r"NoSuchExecutionProvider not installed; there are .*CPU"):
        Providers.choose(("NoSuchExecutionProvider", CPU))


def test_the_cpu_can_be_asked_for_and_brings_its_own_batch_sizes():
    chosen = Providers.choose((CPU,))

    assert (chosen.names, chosen.on_gpu, chosen.batch_sizes) == ((CPU,), False, (1, 8))


def test_options_reach_cuda_only():
    providers = Providers((CUDA, CPU))

    assert dict(providers.with_options()) == {
        CUDA: {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
        CPU: {},
    }
    assert providers.batch_sizes == BUCKETS


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="needs an onnxruntime without CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_on_another_device_than_asked_is_refused():
    assert "fell back" in (Providers((CUDA, CPU)).failure() or "")


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="needs an onnxruntime without CUDA")
def test_without_cuda_the_cpu_is_chosen_unless_cuda_was_asked_for():
    assert Providers.choose().names == (CPU,)
    with pytest.raises(ProvidersError, match="CUDAExecutionProvider not installed"):
        Providers.choose((CUDA, CPU))


@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu and a device")
def test_cuda_gives_the_golden_output(affect):
    providers = Providers.choose((CUDA, CPU))
    for graph in affect.manifest.graphs:
        runner = GraphRunner(affect.file(graph.file), graph, providers=providers, intra_op_threads=1)
        inputs, expected = affect.golden(graph)

        assert runner.session.get_providers()[0] == CUDA
        np.testing.assert_allclose(runner.run(inputs), expected, atol=graph.golden_tolerance)
