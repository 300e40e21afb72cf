"""Children in a stranger's hands: each takes its own caller's answer with it, and nothing else."""

import logging
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from models.inputs.media.container import DecoderEnded
from models.inputs.media.media import MediaError, MediaLimits
from service.sandbox.process import SandboxLost

LIMITS = MediaLimits()
LEFT_S = 60.0

ENDS = {
    "crash": ("crashed", "unreadable_media"),
    "exit": ("failed", "unreadable_media"),
    "hoard": ("memory", "unreadable_media"),
    "fail": ("failed", "unreadable_media"),
    "garbage": ("garbled", "unreadable_media"),
    "a-great-deal": ("garbled", "unreadable_media"),
    "close-and-loop": ("killed", "unreadable_media"),
}
FALSE_FACTS = (
    *("unknown-reply", "unknown-field", "endless-duration", "no-duration", "too-long", "too-many-pixels"),
    *("text-for-a-number", "video-without-size", "long-message", "unknown-code", "strange-error", "done-too-early"),
)
FALSE_FRAMES = (
    *("huge-frame", "overflowing-frame", "negative-frame", "too-often", "frame-without-time", "done-too-early"),
    *("frame-of-no-width", "facts-for-a-frame", "garbage", "never-listen"),
)
FALSE_SOUNDS = ("samples-of-nothing", "loud-samples", "more-samples-than-asked", "more-samples-than-fit", "garbage")


@pytest.mark.parametrize("behaviour", ENDS)
def test_a_child_that_goes_wrong_is_one_refused_recording(make_sandbox, wait_until_gone, behaviour):
    sandbox, causes = make_sandbox(behaviour)
    cause, code = ENDS[behaviour]
    with pytest.raises(DecoderEnded) as refused, sandbox.decoder(LEFT_S) as decoder:
        decoder.probe(b"content", LIMITS)

    assert (causes, refused.value.code) == ([cause], code)
    wait_until_gone(decoder.conversations[0].child.pid)


@pytest.mark.parametrize("behaviour", FALSE_FACTS)
def test_facts_that_cannot_be_are_not_believed(make_sandbox, behaviour):
    sandbox, causes = make_sandbox(behaviour)
    with pytest.raises(MediaError) as refused, sandbox.decoder(LEFT_S) as decoder:
        decoder.probe(b"content", LIMITS)

    assert (causes, refused.value.code) == (["garbled"], "unreadable_media")


@pytest.mark.parametrize("behaviour", FALSE_FRAMES)
def test_frames_that_cannot_be_are_not_taken(make_sandbox, behaviour):
    sandbox, causes = make_sandbox(behaviour)
    with pytest.raises(MediaError) as refused, sandbox.decoder(LEFT_S) as decoder:
        list(decoder.frames_at(b"content", [0.0] * (36_000 if behaviour == "never-listen" else 10), LIMITS))

    assert (causes, refused.value.code) == (["garbled"], "unreadable_media")


@pytest.mark.parametrize("behaviour", FALSE_SOUNDS)
def test_sound_that_cannot_be_is_not_taken(make_sandbox, behaviour):
    sandbox, causes = make_sandbox(behaviour)
    with pytest.raises(MediaError) as refused, sandbox.decoder(LEFT_S) as decoder:
        list(decoder.sound_pieces(b"content", 16_000, LIMITS, end_s=1.0))

    assert (causes, refused.value.code) == (["garbled"], "unreadable_media")


def test_an_endless_loop_ends_where_nothing_moves_for_too_long(sandbox, make_sandbox, wait_until_gone, monkeypatch):
    sandbox.spare.next.result()  # that of the other tests, which would be given up just as soon
    sandbox, causes = make_sandbox("loop")
    pids: list[int] = []

    def loop() -> None:
        with sandbox.decoder(LEFT_S) as decoder:
            pids.append(decoder.conversations[0].child.pid)
            monkeypatch.setattr("service.sandbox.process.STALLED_S", 0.2)
            decoder.probe(b"content", LIMITS)

    with pytest.raises(MediaError) as refused:
        loop()

    assert (causes, refused.value.code) == (["stalled"], "too_long")
    wait_until_gone(pids[0])


def test_a_recording_that_waits_for_a_core_does_not_count_as_stalled(make_sandbox, monkeypatch):
    class GivenUp(Exception):
        pass

    now_s, ticks = [0.0], 0

    def wait() -> None:
        nonlocal ticks
        ticks += 1
        now_s[0] += 100.0
        if ticks == 3:
            raise GivenUp

    def decode() -> None:
        with sandbox.decoder(LEFT_S) as decoder:
            assert decoder.conversations[0].child.pid > 0
            monkeypatch.setattr("service.sandbox.process.time", SimpleNamespace(monotonic=lambda: now_s[0]))
            decoder.probe(b"content", LIMITS, tick=wait)

    sandbox, causes = make_sandbox("loop")
    with pytest.raises(GivenUp):
        decode()

    assert causes == ["cancelled"]


def test_processor_time_is_a_share_of_what_the_request_has_left(make_sandbox):
    sandbox, causes = make_sandbox("busy")
    with pytest.raises(MediaError, match="more than 1 s") as refused, sandbox.decoder(1.2) as decoder:
        decoder.probe(b"content", LIMITS)

    assert (causes, refused.value.code) == (["cpu"], "too_long")


def test_a_request_that_is_given_up_takes_its_child_with_it(make_sandbox, wait_until_gone):
    class GivenUp(Exception):
        pass

    def give_up() -> None:
        raise GivenUp

    sandbox, causes = make_sandbox("loop")
    with pytest.raises(GivenUp), sandbox.decoder(LEFT_S) as decoder:
        decoder.probe(b"content", LIMITS, tick=give_up)

    assert causes == ["cancelled"]
    wait_until_gone(decoder.conversations[0].child.pid)


def test_the_message_of_a_failure_stays_in_the_child(make_sandbox, caplog):
    sandbox, _ = make_sandbox("fail")
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(MediaError) as refused,
        sandbox.decoder(LEFT_S) as decoder,
    ):
        decoder.probe(b"content", LIMITS)

    assert "KeyError" in caplog.text
    assert "/etc" not in caplog.text + str(refused.value)


def test_a_picture_too_large_for_the_memory_is_said_to_be_and_alarms_nobody(make_sandbox, write_picture, caplog):
    picture = write_picture(np.zeros((1000, 1000, 3), np.uint8), "png", "rgb24")
    sandbox, causes = make_sandbox(memory_bytes=1 << 20)
    with pytest.raises(MediaError, match="1048576 bytes of memory") as refused, sandbox.decoder(LEFT_S) as decoder:
        decoder.decode_picture(picture, LIMITS)

    assert (causes, refused.value.code) == (["memory"], "unreadable_media")
    assert caplog.records == []


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS])
def test_a_crash_in_the_middle_of_a_film_ends_its_frames(make_sandbox, write_video, barcode, number):
    video = write_video([barcode(i) for i in range(60)])
    sandbox, causes = make_sandbox()

    def watch() -> None:
        with sandbox.decoder(LEFT_S) as decoder:
            frames = decoder.frames_at(video, [i / 25 for i in range(60)], LIMITS)
            next(frames)
            os.kill(decoder.conversations[0].child.pid, number)
            list(frames)

    with pytest.raises(MediaError) as refused:
        watch()

    assert (causes, refused.value.code) == (["crashed"], "unreadable_media")


def test_other_children_live_on_when_one_crashes(make_sandbox, write_video, barcode):
    video = write_video([barcode(i) for i in range(60)])
    times_s = [i / 25 for i in range(60)]
    sandbox, causes = make_sandbox()

    def crash() -> None:
        with sandbox.decoder(LEFT_S) as doomed:
            os.kill(doomed.conversations[0].child.pid, signal.SIGSEGV)
            doomed.probe(video, LIMITS)

    with sandbox.decoder(LEFT_S) as healthy:
        frames = healthy.frames_at(video, times_s, LIMITS)
        first = next(frames)
        with pytest.raises(MediaError):
            crash()
        rest = list(frames)

    assert 1 + len(rest) == 60
    assert first.time_s == 0.0
    assert causes == ["crashed", "ok"]


def test_a_lost_zygote_costs_the_requests_at_work_and_is_replaced(make_sandbox, write_video, barcode):
    video = write_video([barcode(i) for i in range(60)])
    sandbox, causes = make_sandbox()

    def lose() -> None:
        with sandbox.decoder(LEFT_S) as decoder:
            frames = decoder.frames_at(video, [i / 25 for i in range(60)], LIMITS)
            next(frames)
            sandbox.zygote.process.kill()
            sandbox.zygote.process.wait()
            list(frames)

    with pytest.raises(SandboxLost):
        lose()
    with sandbox.decoder(LEFT_S) as decoder:
        assert decoder.probe(video, LIMITS).has_video

    assert causes == ["lost", "ok"]


def test_no_child_outlives_the_zygote(make_sandbox, wait_until_gone):
    sandbox, _ = make_sandbox("loop")
    pids: list[int] = []

    def orphan() -> None:
        with sandbox.decoder(LEFT_S) as decoder:
            pids.append(decoder.conversations[0].child.pid)
            sandbox.zygote.process.kill()
            decoder.probe(b"content", LIMITS)

    with pytest.raises(SandboxLost):
        orphan()
    wait_until_gone(pids[0])
