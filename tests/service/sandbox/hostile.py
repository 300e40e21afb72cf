"""A zygote whose children are in a stranger's hands, or whose kernel lacks a layer: `python hostile.py BEHAVIOUR`."""

import ctypes
import errno
import json
import os
import sys
from typing import Any

import numpy as np

from service.sandbox import attempts, child, landlock, seccomp, system, zygote


def crash(*_: Any) -> None:
    ctypes.string_at(0)


def exit_quietly(*_: Any) -> None:
    os._exit(0)


def loop(*_: Any) -> None:
    while True:
        pass


def busy(link: child.Link, *_: Any) -> None:
    while True:
        link.tick()


def hoard(*_: Any) -> None:
    hoarded = []
    while True:
        hoarded.append(bytes(1 << 20))


def fail(*_: Any) -> None:
    raise KeyError("/etc/shadow")


def garbage(link: child.Link, *_: Any) -> None:
    link.control.send(b"\xff\x00{")


def a_great_deal(link: child.Link, *_: Any) -> None:
    link.control.send(b"[" * 100_000)


def close_and_loop(link: child.Link, *_: Any) -> None:
    os.close(link.control.fileno())
    loop()


def never_listen(link: child.Link, *_: Any) -> None:
    while True:
        link.say("frame", time_s=0.0, height=1, width=1, times=1)


def report(link: child.Link, *_: Any) -> None:
    """What a child holds, laid into the first slot."""
    open_ones = [number for number in range(256) if is_open(number)]
    held = {
        "environment": dict(os.environ),
        "descriptors": open_ones,
        "modules": sorted(sys.modules),
        "user": os.getuid(),
        "tries": attempts.try_everything(),
    }
    text = json.dumps(held).encode()
    link.ring.write(0, np.frombuffer(text, np.uint8))
    link.say("samples", count=len(text))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def say(kind: str, **fields: Any) -> Any:
    def act(link: child.Link, *_: Any) -> None:
        link.say(kind, **fields)

    return act


def samples(*values: float, count: int | None = None) -> Any:
    def act(link: child.Link, *_: Any) -> None:
        link.ring.write(0, np.array(values, np.float32))
        link.say("samples", count=len(values) if count is None else count)
        link.say("done")

    return act


def absent(*_: Any) -> None:
    raise OSError(errno.ENOSYS, "not in this kernel")


FACTS = {"duration_s": 1.0, "fps": 25.0, "width": 8, "height": 8, "has_video": True, "has_audio": False}
FRAME = {"time_s": 0.0, "height": 8, "width": 8, "times": 1}
BEHAVIOURS = {
    "crash": crash,
    "exit": exit_quietly,
    "loop": loop,
    "busy": busy,
    "hoard": hoard,
    "fail": fail,
    "garbage": garbage,
    "a-great-deal": a_great_deal,
    "close-and-loop": close_and_loop,
    "never-listen": never_listen,
    "report": report,
    "unknown-reply": say("root", shell=True),
    "unknown-field": say("facts", **FACTS, path="/etc/shadow"),
    "endless-duration": say("facts", **FACTS | {"duration_s": float("inf")}),
    "no-duration": say("facts", **FACTS | {"duration_s": float("nan")}),
    "too-long": say("facts", **FACTS | {"duration_s": 1e9}),
    "too-many-pixels": say("facts", **FACTS | {"width": 1 << 20, "height": 1 << 20}),
    "text-for-a-number": say("facts", **FACTS | {"width": "8"}),
    "video-without-size": say("facts", **FACTS | {"width": None}),
    "huge-frame": say("frame", **FRAME | {"height": 1 << 20, "width": 1 << 20}),
    "overflowing-frame": say("frame", **FRAME | {"height": 1 << 40, "width": 1 << 40}),
    "negative-frame": say("frame", **FRAME | {"height": -8, "width": -8}),
    "too-often": say("frame", **FRAME | {"times": 1000}),
    "frame-without-time": say("frame", **FRAME | {"time_s": float("nan")}),
    "frame-of-no-width": say("frame", **FRAME | {"stretch": [0.0, 1.0]}),
    "done-too-early": say("done"),
    "facts-for-a-frame": say("facts", **FACTS),
    "long-message": say("refused", code="too_large", message="x" * 501),
    "unknown-code": say("refused", code="internal", message="x"),
    "strange-error": say("failed", memory=False, error="a b\nc", line=1),
    "samples-of-nothing": samples(0.0, float("nan")),
    "loud-samples": samples(0.0, 1e30),
    "more-samples-than-asked": samples(0.0, count=1 << 19),
    "more-samples-than-fit": samples(0.0, count=1 << 30),
}

if __name__ == "__main__":
    asked = sys.argv[1]
    if "landlock" in asked:
        landlock.close_files = absent
    if "seccomp" in asked:
        seccomp.close_kernel = absent
    if "network" in asked:
        system.unshare = absent
    if asked in BEHAVIOURS:
        for do in ("probe", "frames", "picture", "sound"):
            child.DOES[do] = BEHAVIOURS[asked]
    if asked == "dead":
        sys.exit(3)
    zygote.main()
