"""What PKDOT_SANDBOX asks for, on systems that have all layers, some, or none."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.inputs.media import media
from service.sandbox import sandbox as sandbox_module
from service.sandbox import wire
from service.sandbox.layers import LAYERS
from service.sandbox.process import SandboxLost
from service.sandbox.sandbox import Sandbox, SandboxError, describe, in_process, missing, start_sandbox


def start(mode, command, monkeypatch):
    def made(**given):
        return Sandbox(**given, command=command)

    monkeypatch.setattr(sandbox_module, "Sandbox", made)
    return start_sandbox(mode, max_pixels=1 << 20, memory_bytes=1 << 30, on_exit=lambda _: None)


def test_off_is_no_sandbox():
    assert start_sandbox("off", max_pixels=1, memory_bytes=1, on_exit=lambda _: None) is None
    assert describe(None) == "sandbox: off"


def test_what_holds_is_said_in_one_line(sandbox):
    text = describe(sandbox)

    assert text.startswith("sandbox: ")
    for layer in LAYERS:
        assert (f"{layer}=no" in text) != sandbox.layers[layer]


def test_one_of_landlock_and_seccomp_is_enough_for_require(sandbox, command_of, monkeypatch):
    if missing(sandbox):
        pytest.skip(f"this system lacks {missing(sandbox)}")
    for absent, other in (("landlock", "seccomp"), ("seccomp", "landlock")):
        if not sandbox.layers[other]:
            continue
        started = start("auto", command_of(f"without-{absent}"), monkeypatch)
        assert (started.layers[absent], started.layers[other]) == (False, True)
        started.close()


def test_require_without_landlock_serves_where_seccomp_holds(sandbox, command_of, monkeypatch):
    if missing(sandbox) or not sandbox.layers["seccomp"]:
        pytest.skip("this system has no seccomp, or lacks more")
    started = start("require", command_of("without-landlock"), monkeypatch)

    assert not started.layers["landlock"]
    assert "landlock=no" in describe(started)
    started.close()


def test_a_container_that_forbids_namespaces_is_one_layer_less(sandbox, command_of, monkeypatch):
    if missing(sandbox):
        pytest.skip(f"this system lacks {missing(sandbox)}")
    started = start("require", command_of("without-network"), monkeypatch)

    assert started.layers == sandbox.layers | {"network": False}
    assert started.possible == ()
    started.close()


def test_a_new_zygote_that_gave_up_less_than_the_first_is_not_used(make_sandbox, command_of):
    made, _ = make_sandbox()
    if not made.layers["network"]:
        pytest.skip("this system has no network namespaces")
    made.command = command_of("without-network")
    made.zygote.process.kill()
    made.zygote.process.wait()

    with pytest.raises(SandboxLost), made.decoder(1.0):
        pass


def test_require_without_both_is_refused_and_says_what_is_missing(sandbox, command_of, monkeypatch):
    assert set(sandbox.layers) == set(LAYERS)
    with pytest.raises(SandboxError, match="landlock or seccomp"):
        start("require", command_of("without-landlock-seccomp"), monkeypatch)


def test_auto_without_both_serves_and_warns(sandbox, command_of, monkeypatch, caplog):
    assert set(sandbox.layers) == set(LAYERS)
    started = start("auto", command_of("without-landlock-seccomp"), monkeypatch)
    started.close()

    assert "landlock or seccomp" in caplog.text


def test_a_zygote_that_does_not_come_up_is_an_error_or_a_warning(command_of, monkeypatch, caplog):
    with pytest.raises(SandboxError):
        start("require", command_of("dead"), monkeypatch)
    assert start("auto", command_of("dead"), monkeypatch) is None
    assert "without a sandbox" in caplog.text


def test_a_child_that_no_descriptor_is_left_for_costs_none(make_sandbox, monkeypatch):
    def none_left():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def shared_memories():
        return sum("memfd" in os.path.realpath(one) for one in Path("/proc/self/fd").iterdir())

    sandbox, _ = make_sandbox()
    sandbox.child(1).close()  # the one that waits, or is being forked
    before = shared_memories()
    monkeypatch.setattr(wire, "pair", none_left)

    for _ in range(3):
        with pytest.raises(SandboxLost):
            sandbox.fork()

    assert shared_memories() == before


def test_without_a_sandbox_the_service_decodes_itself():
    with in_process(1.0) as decoder:
        assert decoder is media


def test_the_child_s_code_imports_nothing_of_the_service():
    """What a fresh program loads for it: neither the web server, nor the runtime, nor the settings."""
    code = "import sys, service.sandbox.zygote; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "service.sandbox.child" in loaded
    assert {"onnxruntime", "starlette", "fastapi", "pydantic", "service.settings", "service.uploads.upload"} & set(
        loaded
    ) == set()


def test_a_zygote_ends_with_the_service(wait_until_gone):
    """The service is a program here that starts a sandbox, tells the zygote's number, and is killed."""
    code = (
        "import os, signal; from service.sandbox.sandbox import Sandbox; "
        "s = Sandbox(max_pixels=1 << 20, memory_bytes=1 << 30); print(s.zygote.process.pid, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (-9, "")
    wait_until_gone(int(done.stdout))
