"""`pkdot` itself: each half is there only if what it needs is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "yaml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["pkdot", *ARGUMENTS]
import pkdot
pkdot.main()
"""

SIGNALLED = """
import os, subprocess, sys
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == "service.cli":
            os.kill(os.getpid(), SIGNAL)
            subprocess.run(["grep", "SigIgn", "/proc/self/status"])
sys.meta_path.insert(0, Signals())
sys.argv = ["pkdot", *ARGUMENTS]
"""
STOPPED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background begins without it
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == "training.cli":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Signals())
sys.argv = ["pkdot", *ARGUMENTS]
import pkdot
pkdot.main()
"""
PRINTING = """
import sys, types
half = sys.modules["service.cli"] = types.ModuleType("service.cli")
half.add_commands = lambda commands: commands.add_parser("bundle").set_defaults(run=show)
def show(_):
    print("x" * CHARACTERS)
    return 0
sys.argv = ["pkdot", "bundle"]
import pkdot
pkdot.main()
"""
OPENING = "print(); return open('/dev/null').fileno()"
MAINS = {
    "pkdot": "import pkdot; pkdot.main()",
    "service": "import runpy; runpy.run_module('service', run_name='__main__')",
}


def run(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = script.replace("ARGUMENTS", repr(arguments))
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_the_training_half_its_commands_say_what_to_install() -> None:
    done = run(WITHOUT_TORCH, "train", "recipe.yaml", "--resume")

    assert done.returncode == 2
    assert "pip install '.[train]'" in done.stderr


def test_the_serving_half_works_without_torch() -> None:
    done = run(WITHOUT_TORCH, "bundle", "check", "nowhere")

    assert done.returncode == 1
    assert "nowhere" in done.stderr


def test_the_service_never_loads_torch_or_training() -> None:
    code = "import sys, service.app; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'training')])"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("main", MAINS)
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 0), ("SIGINT", 0), ("SIGHUP", 2)])
def test_a_signal_while_the_service_is_imported_is_minded_as_later(main: str, name: str, code: int) -> None:
    script = SIGNALLED.replace("SIGNAL)", f"{signal.Signals[name].value})") + MAINS[main]
    done = run(script, "serve", "--port", "none")

    assert done.returncode == code
    if name == "SIGHUP":  # it goes on to read its arguments, and no program that it starts ignores the signal
        assert "invalid int value: 'none'" in done.stderr
        assert int(done.stdout.split()[1], 16) & 1 == 0
    else:
        assert (done.stdout, done.stderr) == ("", "")


def test_ctrl_c_ends_a_command_with_one_line_and_130() -> None:
    done = run(STOPPED, "train", "recipe.yaml")

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "pkdot: stopped\n")


@pytest.mark.parametrize("characters", [10, 1_000_000])  # what waits to be printed, and what is printed at once
def test_a_reader_that_leaves_ends_a_command_without_a_word(characters: int) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", PRINTING.replace("CHARACTERS", str(characters))]

    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("characters", [10, 1_000_000])
def test_a_full_disk_behind_stdout_is_one_sentence(characters: int) -> None:
    command = [sys.executable, "-c", PRINTING.replace("CHARACTERS", str(characters))]

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "pkdot: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream_that_was_not_there(closed: str) -> None:
    command = [sys.executable, "-c", PRINTING.replace('print("x" * CHARACTERS)\n    return 0', OPENING)]

    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], cwd=ROOT, check=False)

    assert done.returncode > 2


def test_no_command_at_all_is_wrong_use() -> None:
    assert run("import sys; sys.argv = ['pkdot', *ARGUMENTS]; import pkdot; pkdot.main()").returncode == 2
