"""Runners and providers, with real graphs in the real runtime."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import bundle as bundle_format
from models.bundle import Bundle
from service.runtime.cancellation import Cancellation, RunCancelled
from service.runtime.provider_options import CPU, CUDA, TENSORRT, RuntimeOptions
from service.runtime.providers import IDENTITY, Providers, ProvidersError
from service.runtime.runner import BUCKETS, GraphError, GraphRunner
from service.runtime.warm_up import BatchTime, WarmUp

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
    padding.run_checked = lambda inputs, *_: seen.append(len(inputs["voice"])) or run_checked(inputs)
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


class Timed(GraphRunner):
    """Says that a batch took what `seconds` tells for its size."""

    seconds: ClassVar[dict[int, float]] = {}

    def timed(self, windows):
        super().timed(windows)
        return self.seconds[len(windows)]


@pytest.mark.parametrize(
    ("seconds", "tried", "useful"),
    [
        ({1: 1.0, 2: 2.0}, 2, 1),  # no gain
        ({1: 1.0, 2: 1.94}, 2, 1),  # a gain of 3 %
        ({1: 1.0, 2: 1.5, 4: 3.0}, 3, 2),
        (dict.fromkeys(BUCKETS, 1.0), 6, 32),
        ({1: 1.0, 2: 1.8}, 2, 2),  # a gain of 11 % is taken, and not pursued
        ({1: 1.0, 2: 1.2, 4: 2.0, 8: 3.9}, 4, 4),  # 8 is only 3 % better
    ],
)
def test_on_a_cpu_batches_are_tried_as_long_as_they_gain(affect, seconds, tried, useful):
    graph = next(graph for graph in affect.manifest.graphs if graph.available == ("voice",))
    runner = Timed(affect.file(graph.file), graph, providers=ON_CPU, intra_op_threads=1)
    runner.seconds = seconds
    example, _ = affect.golden(graph)

    took = runner.warm(example)

    assert [time.items for time in took.times] == list(BUCKETS[:tried])
    assert (took, took.useful_batch) == (runner.warm_up, useful)
    assert took.slowest_batch_s == max(seconds.values())


def test_a_large_array_is_run_in_useful_batches_and_changes_no_row(affect):
    runner = runner_of(affect, "voice")
    inputs = {"voice": np.random.default_rng(0).uniform(-13, 2, (11, 64, 200)).astype(np.float32)}
    whole = runner.run(inputs)
    runner.warm_up = WarmUp(1.0, (BatchTime(1, 1.0), BatchTime(4, 1.0)))
    seen: list[int] = []
    run_checked = runner.run_checked
    runner.run_checked = lambda inputs, *_: seen.append(len(inputs["voice"])) or run_checked(inputs)

    np.testing.assert_allclose(runner.run(inputs), whole, atol=1e-6)
    assert seen == [4, 4, 3]


def test_warming_up_measures_real_runs(affect):
    runner = runner_of(affect, "voice")
    example, _ = affect.golden(runner.graph)

    took = runner.warm(example)

    assert 0 < took.seconds_per_item <= took.slowest_batch_s
    assert took.useful_batch in BUCKETS


def looping_model(rounds: int) -> bytes:
    """(batch, 1) float32 to itself, after `rounds` of a loop that takes its time: there are nodes to stop between."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["go_on"]),
            helper.make_node("MatMul", ["state", "unit"], ["next_state"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("more", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, [256, 256]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next_state", TensorProto.FLOAT, [256, 256])],
    )
    constants = {"rounds": np.int64(rounds), "yes": np.bool_(True), "unit": np.eye(256, dtype=np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["rounds", "yes", "unit"], ["end"], body=body),
            helper.make_node("ReduceMax", ["end"], ["one"], keepdims=0),
            helper.make_node("Mul", ["voice_input", "one"], ["values"]),
        ],
        "loop",
        [value("voice_input", TensorProto.FLOAT, ["batch", 1])],
        [value("values", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_a_run_that_nobody_waits_for_ends_early_and_the_session_can_be_used_again(affect):
    graph = next(graph for graph in affect.manifest.graphs if graph.available == ("voice",))
    endless = GraphRunner(looping_model(10**9), graph, providers=ON_CPU, intra_op_threads=1)
    short = GraphRunner(looping_model(3), graph, providers=ON_CPU, intra_op_threads=1)
    inputs = {"voice": np.array([[2.0]], np.float32)}

    with ThreadPoolExecutor(1) as thread:
        for _ in range(2):  # again: the session was not harmed
            cancel = Cancellation()
            run = thread.submit(endless.run, inputs, cancel)
            assert not wait([run], timeout=0.05).done
            cancel.ask()
            with pytest.raises(RunCancelled):
                run.result(60)

    stopped = Cancellation()
    stopped.ask()
    with pytest.raises(RunCancelled):
        short.run(inputs, stopped)
    assert short.run(inputs, Cancellation()).tolist() == [[2.0]]


def test_an_error_of_the_graph_is_no_cancellation(affect):
    runner = runner_of(affect, "voice")
    runner.session = None
    inputs = {"voice": np.zeros((1, 64, 200), np.float32)}

    with pytest.raises(AttributeError):
        runner.run(inputs, Cancellation())


def test_bound_inputs_give_the_same_rows(affect, both):
    bound = runner_of(affect, "face", "voice")
    bound.bound_to = "cpu"
    inputs, expected = affect.golden(both.graph)

    np.testing.assert_array_equal(bound.run(inputs), both.run(inputs))
    np.testing.assert_allclose(bound.run(inputs, Cancellation()), expected, atol=1e-5)


SPINNING = {"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"}
"""Threads wait awake for the next operator of a run, and sleep between runs."""


def test_what_runs_alone_has_a_session_of_its_own_with_more_threads(affect):
    graph = next(graph for graph in affect.manifest.graphs if graph.available == ("voice",))
    providers = Providers((CPU,), devices=(0, 1))
    runner = GraphRunner(affect.file(graph.file), graph, providers=providers, intra_op_threads=1, lone_threads=2)
    inputs, expected = affect.golden(graph)
    runner.warm(inputs)

    for device in (0, 1):
        beside, alone = runner.on_device(device), runner.on_device(device, alone=True)
        threads = [one.session.get_session_options().intra_op_num_threads for one in (beside, alone)]
        assert (threads, alone.device) == ([1, 2], device)
        entries = {name: alone.session.get_session_options().get_session_config_entry(name) for name in SPINNING}
        assert entries == SPINNING
        np.testing.assert_allclose(alone.run(inputs), expected, atol=1e-5)
        assert alone.warm_up is beside.warm_up


def test_each_device_has_a_runner_of_its_own(affect):
    graph = next(graph for graph in affect.manifest.graphs if graph.available == ("voice",))
    providers = Providers((CPU,), devices=(0, 1))
    runner = GraphRunner(affect.file(graph.file), graph, providers=providers, intra_op_threads=1, key="k")
    inputs, expected = affect.golden(graph)
    runner.warm(inputs)

    assert runner.on_device(0) is runner
    twin = runner.on_device(1)
    assert twin.session is not runner.session
    assert (twin.key, twin.device) == ("k", 1)
    np.testing.assert_allclose(twin.run(inputs), expected, atol=1e-5)
    assert twin.warm_up.times


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


def test_the_cpu_can_be_asked_for():
    chosen = Providers.choose((CPU,), devices=(0, 1))

    assert (chosen.names, chosen.on_gpu, chosen.devices) == ((CPU,), False, (0, 1))


def test_options_reach_the_gpu_only():
    providers = Providers((TENSORRT, CUDA, CPU), options=RuntimeOptions(gpu_memory_bytes=1000))
    given = dict(providers.with_options(3))

    assert given[CPU] == {}
    assert given[CUDA]["device_id"] == given[TENSORRT]["device_id"] == "3"
    assert given[CUDA]["gpu_mem_limit"] == "1000"
    assert providers.on_gpu


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
