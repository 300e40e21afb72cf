"""What does the sandbox cost? Its start, a fork, and whole recordings decoded with and without it, in turns.

python benchmarks/sandbox.py --out sandbox.json

Without it: PyAV in this process, with one thread of its own. Both sides read a recording as the service does: its
facts, ten frames of every two seconds, its sound at 16 kHz. Files lie on disk, and are drawn on the spot, by another
process: the memory that an encoder leaves behind would make the bare side faster than it is in a service.

Beside the time on the clock stands the processor time that a request waits for: of the thread that reads, and of the
child from the moment it is taken. Other programs on the machine change it little. What a child does before, while it
waits for a request, is told on its own.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from models.inputs.media import media
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaLimits
from service.sandbox.process import Zygote
from service.sandbox.sandbox import Sandbox, describe

LIMITS: Final = MediaLimits()
MEMORY_BYTES: Final = 2 << 30
FRAMES_A_SECOND: Final = 5
RATE_HZ: Final = 16_000
LEFT_S: Final = 120.0


class Form(NamedTuple):
    """A recording to draw."""

    name: str
    codec: str
    width: int
    height: int
    seconds: int


FORMS: Final = (
    Form("H.264 640 × 360, 2 s", "libx264", 640, 360, 2),
    Form("H.264 640 × 360, 10 s", "libx264", 640, 360, 10),
    Form("H.264 1280 × 720, 10 s", "libx264", 1280, 720, 10),
    Form("H.264 1920 × 1080, 5 s", "libx264", 1920, 1080, 5),
    Form("VP9 640 × 360, 10 s", "libvpx-vp9", 640, 360, 10),
)


def draw(form: Form, path: Path) -> None:
    """A film of moving noise, 30 frames a second, with sound."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (form.height // 8 + 64, form.width // 8 + 64, 3), np.uint8)
    texture = small.repeat(8, axis=0).repeat(8, axis=1)
    container, sound_codec = ("webm", "libopus") if form.codec == "libvpx-vp9" else ("mp4", "aac")
    with av.open(path, "w", format=container) as output:
        fast = {"cpu-used": "8", "deadline": "realtime"} if container == "webm" else {"preset": "veryfast"}
        video = output.add_stream(form.codec, rate=30, options=fast)
        audio = output.add_stream(sound_codec, rate=48_000, layout="mono")
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width, video.height, video.pix_fmt = form.width, form.height, "yuv420p"
        for index in range(30 * form.seconds):
            shift = index * 3 % 256
            picture = texture[shift : shift + form.height, shift : shift + form.width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        step = audio.codec_context.frame_size or 960
        for at in range(0, 48_000 * form.seconds, step):
            samples = (0.1 * rng.standard_normal((1, step))).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 48_000, at, Fraction(1, 48_000)
            stored = av.AudioResampler(format=audio.codec_context.format.name, layout="mono", rate=48_000)
            for converted in stored.resample(sound):
                output.mux(audio.encode(converted))
        output.mux(audio.encode())


def read(decoder: Decoder, path: Path) -> None:
    """All that the service asks of a recording."""
    with path.open("rb") as file:
        facts = decoder.probe(file, LIMITS)
        times_s = [float(t) for t in np.arange(0.0, facts.duration_s, 1 / FRAMES_A_SECOND)]
        for _ in decoder.frames_at(file, times_s, LIMITS):
            pass
        for _ in decoder.sound_pieces(file, RATE_HZ, LIMITS):
            pass


class Spent(NamedTuple):
    """Seconds on the clock, and of processor time that had to be waited for."""

    clock_s: float
    cpu_s: float


def bare(path: Path) -> Spent:
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    read(media, path)
    return Spent(time.perf_counter() - began_s, time.thread_time() - cpu_s)


def sandboxed(sandbox: Sandbox, path: Path) -> Spent:
    pid = waiting(sandbox)
    before_s = cpu_seconds(pid)
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    with sandbox.decoder(LEFT_S) as decoder:
        read(decoder, path)
        of_child_s = cpu_seconds(pid) - before_s
    return Spent(time.perf_counter() - began_s, time.thread_time() - cpu_s + of_child_s)


def waiting(sandbox: Sandbox) -> int:
    """The number of the child that waits, once it does."""
    assert sandbox.spare.next is not None  # no request is at work
    return sandbox.spare.next.result().pid


def cpu_seconds(pid: int) -> float:
    """Processor time of a process of one thread, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def fork_and_end(sandbox: Sandbox) -> float:
    """Seconds until a child is there that nobody forked ahead, and has been given up again."""
    began_s = time.perf_counter()
    sandbox.fork().close()
    return time.perf_counter() - began_s


def take_and_end(sandbox: Sandbox) -> float:
    """The same with the one that waits."""
    waiting(sandbox)
    began_s = time.perf_counter()
    with sandbox.decoder(LEFT_S):
        pass
    return time.perf_counter() - began_s


def compare(sandbox: Sandbox, path: Path, rounds: int) -> dict[str, float]:
    """Medians of both sides, interleaved, and the median of the rounds' ratios."""
    sandboxed(sandbox, path)
    bare(path)
    pairs = [(bare(path), sandboxed(sandbox, path)) for _ in range(rounds)]
    return {
        "bare_s": median(outside.clock_s for outside, _ in pairs),
        "sandboxed_s": median(inside.clock_s for _, inside in pairs),
        "ratio": median(inside.clock_s / outside.clock_s for outside, inside in pairs),
        "least_ratio": min(inside.clock_s for _, inside in pairs) / min(outside.clock_s for outside, _ in pairs),
        "bare_cpu_s": median(outside.cpu_s for outside, _ in pairs),
        "sandboxed_cpu_s": median(inside.cpu_s for _, inside in pairs),
        "cpu_ratio": median(inside.cpu_s / outside.cpu_s for outside, inside in pairs),
    }


def measure(forms: Sequence[Form], rounds: int) -> dict[str, object]:
    starts = []
    for _ in range(5):
        begin = time.perf_counter()
        zygote = Zygote()
        starts.append(time.perf_counter() - begin)
        zygote.close()
    sandbox = Sandbox(max_pixels=LIMITS.max_pixels, memory_bytes=MEMORY_BYTES)
    try:
        fork_s = median(fork_and_end(sandbox) for _ in range(50))
        take_s = median(take_and_end(sandbox) for _ in range(50))
        ahead_s = cpu_seconds(waiting(sandbox))
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, get_context("spawn")) as painter,
            ThreadPoolExecutor(1) as reader,
        ):
            paths = [Path(folder) / str(number) for number in range(len(forms))]
            list(painter.map(draw, forms, paths))
            rows = reader.map(compare, [sandbox] * len(forms), paths, [rounds] * len(forms))
            recordings = {form.name: row for form, row in zip(forms, rows, strict=True)}
        return {
            "machine": f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
            "versions": f"Python {platform.python_version()}, PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
            "sandbox": describe(sandbox),
            "zygote_start_s": median(starts),
            "fork_confine_and_end_s": fork_s,
            "take_and_end_s": take_s,
            "cpu_ahead_s": ahead_s,
            "recordings": recordings,
        }
    finally:
        sandbox.close()


def processor() -> str:
    """The processor's name, where the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Print one table, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sandbox.json"))
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    result = measure(FORMS, arguments.rounds)
    arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, value in result.items():
        if not isinstance(value, dict):
            print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
            continue
        for recording, row in value.items():
            print(
                f"{recording}: {1000 * row['bare_s']:.1f} ms bare, {1000 * row['sandboxed_s']:.1f} ms in the sandbox: "
                f"{row['ratio']:.2f} times ({row['least_ratio']:.2f} by the quickest runs); "
                f"processor time {1000 * row['bare_cpu_s']:.1f} and {1000 * row['sandboxed_cpu_s']:.1f} ms: "
                f"{row['cpu_ratio']:.2f} times"
            )


if __name__ == "__main__":
    main()
