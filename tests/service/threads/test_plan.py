"""Cores: what the cgroup leaves, read from trees as kernels write them."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.threads.plan import available_cores, plan_threads, quota_cores
from service.threads.priority import COMPUTING, stand_back


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)])
def test_a_version_2_quota_is_read(tmp_path, text, cores):
    write(tmp_path, cpu__max=text)

    assert quota_cores("0::/\n", tmp_path) == cores


def test_the_smallest_quota_on_the_way_to_the_root_counts(tmp_path):
    write(tmp_path / "pods" / "one", cpu__max="400000 100000")
    write(tmp_path / "pods", cpu__max="300000 100000")

    assert quota_cores("0::/pods/one", tmp_path) == 3


def test_a_path_from_outside_the_container_falls_back_to_its_root(tmp_path):
    write(tmp_path, cpu__max="200000 100000")

    assert quota_cores("0::/kubepods/burstable/pod1", tmp_path) == 2
    assert quota_cores("0::/../../pod1", tmp_path) == 2


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2.5), ("-1", None)])
def test_a_version_1_quota_is_read(tmp_path, quota, cores):
    write(tmp_path / "cpu" / "docker", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")

    assert quota_cores("5:memory:/docker\n4:cpu,cpuacct:/docker\n0::/\n", tmp_path) == cores


def test_without_cgroups_there_is_no_quota(tmp_path):
    assert quota_cores("", tmp_path) is None


def test_no_more_cores_than_the_process_may_run_on():
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cores", "plan"),
    [(1, (1, 1, 1, 1)), (2, (2, 2, 2, 2)), (8, (8, 8, 8, 8)), (64, (64, 64, 64, 32))],
)
def test_on_a_cpu_a_lone_run_and_all_decoders_may_use_every_core(cores, plan):
    assert plan_threads(cores, on_gpu=False) == plan


@pytest.mark.parametrize(("cores", "plan"), [(1, (1, 1, 1, 1)), (2, (2, 1, 1, 1)), (8, (8, 1, 7, 1))])
def test_beside_a_gpu_one_core_feeds_it_and_the_rest_decode(cores, plan):
    assert plan_threads(cores, on_gpu=True) == plan


def test_a_plan_without_cores_is_refused():
    with pytest.raises(ValueError, match="at least one core"):
        plan_threads(0, on_gpu=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities for threads")
def test_what_computes_stands_back_and_so_does_what_it_starts() -> None:
    command = [sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"]
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        started = pool.submit(subprocess.check_output, command).result()

    assert int(started) == min(19, own + COMPUTING)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
