"""Each layer alone, proven by trying, and what a child holds."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from service.sandbox import landlock, seccomp, system
from service.sandbox.child import Order
from service.sandbox.layers import CHILD_LAYERS
from service.sandbox.process import Child
from service.sandbox.replies import SamplesLie
from service.sandbox.ring import slot_bytes_for
from service.sandbox.sandbox import NEVER, TRIAL

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def needs(sandbox, layer):
    if not sandbox.layers[layer]:
        pytest.skip(f"this system has no {layer}")


def test_without_a_layer_a_child_can_do_everything_but_reach_the_network(sandbox):
    stopped_by = sandbox.stopped_by([])

    assert {name: stopped_by[name] for name in ("open", "socket", "fork", "signal")} == {
        "open": "",
        "socket": "",
        "fork": "",
        "signal": "",
    }


def test_a_child_has_a_network_of_its_own_with_nothing_in_it(sandbox):
    needs(sandbox, "network")

    assert sandbox.stopped_by([])["connect"] == "ENETUNREACH"


def test_limits_alone_leave_no_descriptor_and_no_process(sandbox):
    needs(sandbox, "rlimits")
    needs(sandbox, "unprivileged")  # root may have more processes than its limit
    stopped_by = sandbox.stopped_by(["rlimits"])

    assert (stopped_by["open"], stopped_by["socket"], stopped_by["fork"]) == ("EMFILE", "EMFILE", "EAGAIN")


def test_landlock_alone_leaves_no_file_no_connection_and_no_signal(sandbox):
    needs(sandbox, "landlock")
    stopped_by = sandbox.stopped_by(["landlock"])

    assert stopped_by["open"] == "EACCES"
    if landlock.landlock_abi() >= 4:
        assert stopped_by["connect"] == "EACCES"
    if landlock.landlock_abi() >= 6:
        assert stopped_by["signal"] == "EPERM"


def test_seccomp_alone_leaves_no_file_no_socket_no_process_and_no_signal(sandbox):
    needs(sandbox, "seccomp")

    assert set(sandbox.stopped_by(["seccomp"]).values()) == {"EPERM"}


def test_all_layers_together_leave_nothing_of_what_must_never_be(sandbox):
    if not (sandbox.layers["landlock"] or sandbox.layers["seccomp"]):
        pytest.skip("this system has neither landlock nor seccomp")
    stopped_by = sandbox.stopped_by(CHILD_LAYERS)

    assert all(stopped_by[name] for name in NEVER)
    assert sandbox.possible == ()


def test_a_child_holds_no_secret_no_descriptor_and_nothing_of_the_service(make_sandbox, monkeypatch):
    monkeypatch.setenv("PKDOT_API_KEY", "a secret")
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    sandbox, _ = make_sandbox("report")
    held = report_of(sandbox.zygote.fork(Order([], *TRIAL, slot_bytes_for(1 << 20))))
    os.close(read_end)
    os.close(write_end)

    assert "a secret" not in str(held["environment"])
    assert set(held["environment"]) <= {
        *("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "OPENBLAS_NUM_THREADS", "GLIBC_TUNABLES"),
        *("LD_LIBRARY_PATH", "LC_CTYPE", "ORT_DISABLE_TELEMETRY"),
    }
    assert held["descriptors"] == [0, 1, 2, 3, 4]  # parent, null, null, the recording, the memory
    assert held["user"] != 0 or not sandbox.layers["unprivileged"]
    foreign = {"onnxruntime", "torch", "starlette", "fastapi", "pydantic", "service.settings", "models.bundle"}
    assert foreign & set(held["modules"]) == set()
    assert held["tries"]["open"] == ""


def report_of(child: Child):
    nothing = os.memfd_create("nothing")
    try:
        child.ready()
        child.order({"do": "probe"}, nothing)
        reply = child.answer(lambda: None)
        assert isinstance(reply, SamplesLie)
        return json.loads(child.ring.read(0, reply.count, np.uint8).tobytes())
    finally:
        os.close(nothing)
        child.close()


def test_the_zygote_has_one_thread(sandbox):
    tasks = Path(f"/proc/{sandbox.zygote.process.pid}/task")

    assert sandbox.zygote.threads == 1
    assert len(list(tasks.iterdir())) == 1


@pytest.mark.parametrize("machine", system.MACHINES)
def test_the_calls_have_the_kernel_s_numbers(machine):
    if not HEADERS[machine].is_file():
        pytest.skip("needs the kernel's headers (Debian: linux-libc-dev)")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)\s", HEADERS[machine].read_text()))
    column = system.MACHINES.index(machine)
    ours = {name: numbers[column] for name, numbers in system.NUMBERS.items() if numbers[column] is not None}

    assert ours == {name: int(defined[name]) for name in ours}


@pytest.mark.parametrize("machine", system.MACHINES)
def test_the_filter_lets_its_list_through_and_nothing_else(machine):
    column = system.MACHINES.index(machine)
    numbers = {name: both[column] for name, both in system.NUMBERS.items()}
    arch, other_arch = seccomp.AUDIT_ARCH[machine], 0x40000003  # 32-bit x86
    program = seccomp.allow_list(machine)

    for name, number in numbers.items():
        if number is not None:
            listed = name in (*seccomp.ALLOWED, *seccomp.ALLOWED_WITHOUT_CODE)
            assert run_filter(program, arch, number) == (seccomp.ALLOW if listed else seccomp.REFUSE), name
    for name in seccomp.ALLOWED_WITHOUT_CODE:
        assert run_filter(program, arch, numbers[name], third=1 | 2) == seccomp.ALLOW  # read, write
        assert run_filter(program, arch, numbers[name], third=1 | 4) == seccomp.REFUSE  # read, execute
    assert run_filter(program, other_arch, numbers["read"]) == seccomp.KILL_PROCESS
    assert run_filter(program, arch, 0x40000000 | numbers["read"]) == seccomp.REFUSE  # x32's calls
    assert len(program) < 256  # the reach of a jump


def run_filter(program, arch: int, number: int, third: int = 0) -> int:
    """Classic BPF as in the kernel's documentation, as far as the filter uses it."""
    words = {0: number, 4: arch, 32: third}
    accumulator = at = 0
    while True:
        step = program[at]
        at += 1
        match step.code:
            case 0x20:
                accumulator = words[step.k]
            case 0x15:
                at += step.yes if accumulator == step.k else step.no
            case 0x45:
                at += step.yes if accumulator & step.k else step.no
            case 0x06:
                return int(step.k)


@pytest.mark.parametrize(
    ("abi", "size", "files", "tcp", "scopes"),
    [(1, 8, 13, 0, 0), (2, 8, 14, 0, 0), (3, 8, 15, 0, 0), (4, 16, 15, 3, 0), (5, 16, 16, 3, 0), (6, 24, 16, 3, 3)],
)
def test_landlock_handles_all_that_its_version_knows(abi, size, files, tcp, scopes):
    """From the table of ABIs in the kernel's userspace-api/landlock."""
    ruleset, known_bytes = landlock.handled(abi)

    assert (known_bytes, ruleset.files, ruleset.tcp, ruleset.scopes) == (size, 2**files - 1, tcp, scopes)


def test_landlock_of_a_later_version_gets_what_is_known_here():
    ruleset, size = landlock.handled(99)

    assert (size, ruleset.files) == (24, 0xFFFF)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_on_a_machine_without_numbers_a_layer_is_absent_and_nothing_crashes(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    assert landlock.landlock_abi() == 0
    with pytest.raises(OSError, match="machine"):
        seccomp.close_kernel()
