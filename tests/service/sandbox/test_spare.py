"""The child that waits for a request: confined before it is asked anything, given away once, ended with the rest."""

import os
import signal
from pathlib import Path

import pytest

from models.inputs.media.media import MediaLimits
from service.sandbox.sandbox import MOST_CPU_S

LIMITS = MediaLimits()
LEFT_S = 60.0
CPU_S = 48


def limits(pid, name):
    """Soft and hard, as the kernel tells anybody."""
    line = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith(name))
    return line.removeprefix(name).split()[:2]


def test_every_request_gets_a_child_of_its_own_which_waited_for_it(sandbox):
    waiting, used = [], []
    for _ in range(3):
        waiting.append(sandbox.spare.next.result().pid)
        with sandbox.decoder(LEFT_S) as decoder:
            used.append(decoder.conversations[0].child.pid)

    assert used == waiting
    assert len(set(used)) == 3


def test_the_request_s_processor_time_is_laid_on_when_the_child_is_taken(sandbox):
    if not sandbox.layers["rlimits"]:
        pytest.skip("this system has no rlimits")
    waiting = sandbox.spare.next.result().pid
    before = limits(waiting, "Max cpu time")
    with sandbox.decoder(LEFT_S):
        after = limits(waiting, "Max cpu time")

    assert before == [str(MOST_CPU_S), str(MOST_CPU_S + 1)]
    assert after == [str(CPU_S), str(CPU_S + 1)]


def test_processor_time_can_only_be_lowered(sandbox):
    if not sandbox.layers["rlimits"]:
        pytest.skip("this system has no rlimits")
    with sandbox.decoder(LEFT_S) as decoder:
        child = decoder.conversations[0].child
        child.bound(CPU_S + 10)

        assert limits(child.pid, "Max cpu time")[1] == str(CPU_S + 1)


def test_the_layers_lie_while_it_waits(sandbox):
    """Of itself it has been told nothing yet, so only the kernel can say."""
    pid = sandbox.spare.next.result().pid
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    facts = dict(line.split(":\t", 1) for line in text.splitlines())

    assert facts["Seccomp"] == ("2" if sandbox.layers["seccomp"] else "0")
    assert facts["NoNewPrivs"] == str(int(sandbox.layers["no_new_privs"]))
    if sandbox.layers["rlimits"]:
        assert limits(pid, "Max file size") == ["0", "0"]
        assert "unlimited" not in limits(pid, "Max address space")


def test_one_that_died_while_it_waited_costs_nobody_an_answer(make_sandbox, write_video, barcode, wait_until_gone):
    sandbox, causes = make_sandbox()
    waiting = sandbox.spare.next.result().pid
    os.kill(waiting, signal.SIGKILL)
    wait_until_gone(waiting)
    with sandbox.decoder(LEFT_S) as decoder:
        facts = decoder.probe(write_video([barcode(5)] * 3), LIMITS)
        used = decoder.conversations[0].child.pid

    assert facts.has_video
    assert used != waiting
    assert causes == ["ok"]


def test_it_ends_with_the_sandbox(make_sandbox, wait_until_gone):
    sandbox, _ = make_sandbox()
    waiting = sandbox.spare.next.result().pid
    sandbox.close()

    wait_until_gone(waiting)
    assert not any(thread.is_alive() for thread in sandbox.spare.executor._threads)
