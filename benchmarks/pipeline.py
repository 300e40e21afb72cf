"""What does POST /predict/pain cost beyond its parts? And what does a long recording cost?

python benchmarks/pipeline.py --out pipeline.json

The parts run bare, in this process, on the cores and with the threads that the service has: PyAV decodes up to the
last frame that is needed, the face nets follow the face through those frames, and one run of the graph computes all
windows. The service and the parts take turns. A long recording is the first clip again and again, without its sound.
Last, what a clip takes beside as many long recordings as there are cores.
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from benchmarks.harness import processes
from benchmarks.harness.bare import open_session
from benchmarks.harness.bundles import served
from benchmarks.harness.contenders import ours
from benchmarks.harness.machine import cache_folder, machine
from benchmarks.harness.servers import Program, Server, form, free_port, serving
from models import bundle as bundle_format
from models.inputs.face.face import FaceTracker
from models.inputs.face.nets import FaceNets, load_face_nets
from models.inputs.windows import Window, frame_times, plan_windows
from models.spec import FaceSpec, InputSpec
from service.threads.plan import available_cores, plan_threads

CLIPS: Final = Path(__file__).parents[2] / "shared" / "data" / "clips"
SHORT_S: Final = 60.0
LONG_S: Final = 600.0
SAMPLE_S: Final = 0.05
STAGES: Final = ("decode", "face", "inference")

Row = dict[str, Any]
Picture = NDArray[np.uint8]


class Parts(NamedTuple):
    """What the bare side runs."""

    inputs: InputSpec
    face: FaceSpec
    nets: FaceNets
    session: Any


def load_parts(bundle: Path, graph: Path) -> Parts:
    """The same nets and the same graph, each with the threads that the service gives it on a CPU."""
    inputs = bundle_format.load(bundle).manifest.inputs
    assert inputs.face is not None  # the pain student reads the face
    plan = plan_threads(available_cores(), on_gpu=False)
    return Parts(inputs, inputs.face, load_face_nets(bundle / "face"), open_session(graph, plan.intra_op))


def run_bare(parts: Parts, clip: Path) -> dict[str, float]:
    """Milliseconds of each stage."""
    begin_s = time.perf_counter()
    windows, frames = decode(parts, clip)
    decoded_s = time.perf_counter()
    tracker = FaceTracker(parts.nets, size_px=parts.face.size_px)
    crops = {time_s: seen[0].crop for time_s, rgb in frames.items() if (seen := tracker.step(time_s, rgb))}
    found_s = time.perf_counter()
    batch = np.stack([window_crops(parts, crops, window) for window in windows])
    parts.session.run(None, {parts.session.get_inputs()[0].name: batch})
    ended_s = time.perf_counter()
    times_s = (begin_s, decoded_s, found_s, ended_s)
    return {stage: 1000 * (times_s[i + 1] - times_s[i]) for i, stage in enumerate(STAGES)}


def decode(parts: Parts, clip: Path) -> tuple[Sequence[Window], dict[float, Picture]]:
    """The windows, and the pictures shown at their times, by presentation time."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        duration_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        windows = plan_windows(0.0, duration_s, parts.inputs.window_s, parts.inputs.hop_s)
        wanted = sorted({t for w in windows for t in frame_times(w, parts.face.frames, parts.inputs.window_s)})
        frames: dict[float, Picture] = {}
        shown = None
        for frame in container.decode(stream):
            while shown is not None and wanted and frame.time > wanted[0]:
                wanted.pop(0)
                if shown.time not in frames:
                    frames[shown.time] = picture(shown)
            shown = frame
            if not wanted:
                break
        if shown is not None and wanted:
            frames[shown.time] = picture(shown)
    return windows, frames


def picture(frame: VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def window_crops(parts: Parts, crops: Mapping[float, Picture], window: Window) -> Picture:
    """(frames, size, size, 3): the nearest crop in time for each of the window's times."""
    shown_s = np.array(list(crops))
    pictures = list(crops.values())
    times_s = frame_times(window, parts.face.frames, parts.inputs.window_s)
    return np.stack([pictures[int(np.abs(shown_s - time_s).argmin())] for time_s in times_s])


def predict(port: int, clip: Path) -> tuple[float, Row]:
    """Milliseconds of the whole request, and the answer; an empty one where the service refuses the clip."""
    body, headers = form("video", clip.name, clip.read_bytes())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin_s = time.perf_counter()
    connection.request("POST", "/predict/pain", body, {**headers, "X-Request-Timeout": "600"})
    answer = connection.getresponse()
    content = answer.read()
    took_ms = 1000 * (time.perf_counter() - begin_s)
    connection.close()
    return took_ms, dict(json.loads(content)) if answer.status == 200 else {}


def compare(parts: Parts, server: Server, clip: Path, rounds: int) -> Row:
    """Medians of both sides, and of the rounds' ratios."""
    run_bare(parts, clip)
    predict(server.port, clip)
    rows = []
    for _ in range(rounds):
        bare = run_bare(parts, clip)
        whole_ms, answer = predict(server.port, clip)
        rows.append({"bare": bare, "service": answer["timing_ms"], "whole_ms": whole_ms})
    return {
        "bare_ms": {stage: median(row["bare"][stage] for row in rows) for stage in STAGES},
        "service_ms": {stage: median(row["service"][stage] for row in rows) for stage in rows[0]["service"]},
        "whole_ms": median(row["whole_ms"] for row in rows),
        "ratio": median(row["whole_ms"] / sum(row["bare"].values()) for row in rows),
        "stage_ratios": {stage: median(row["service"][stage] / row["bare"][stage] for row in rows) for stage in STAGES},
    }


def repeat(clip: Path, seconds: float, path: Path) -> None:
    """The clip's video until `seconds` are full: its packets again and again, nothing is encoded."""
    with av.open(str(path), "w", format="mp4") as output, av.open(str(clip)) as container:
        output.metadata["comment"] = path.stem  # equal recordings would share a run
        source = container.streams.video[0]
        target = output.add_stream_from_template(source)
        unit = source.time_base
        assert unit is not None  # every container that is answered says it
        shift = end = 0
        while end * unit < seconds:
            container.seek(0)
            for packet in container.demux(source):
                if packet.dts is None or packet.pts is None:  # the last one, which is empty
                    continue
                packet.stream, packet.pts, packet.dts = target, packet.pts + shift, packet.dts + shift
                end = max(end, packet.pts + (packet.duration or 0))
                output.mux(packet)
            shift = end


def peak_pss(server: Server, ended: threading.Event, peaks: list[int]) -> None:
    while not ended.wait(SAMPLE_S):
        peaks.append(server.memory().pss)


def measure_long(program: Program, cores: Sequence[int], clip: Path, seconds: float, folder: Path) -> Row:
    """Time and peak memory of one recording, in a service that has answered nothing before."""
    path = folder / f"{seconds:g}.mp4"
    repeat(clip, seconds, path)
    with serving(program, cores) as server:
        before, ended, peaks = server.memory().pss, threading.Event(), list[int]()
        watching = threading.Thread(target=peak_pss, args=(server, ended, peaks))
        watching.start()
        took_ms, answer = predict(server.port, path)
        ended.set()
        watching.join()
    return {
        "seconds": seconds,
        "took_s": took_ms / 1000,
        "pss_before_mb": before / 1e6,
        "peak_pss_mb": max(peaks, default=before) / 1e6,
        "windows": len(answer.get("windows", ())),
        "service_ms": answer.get("timing_ms", {}),
    }


def measure_beside(program: Program, cores: Sequence[int], clip: Path, rounds: int, folder: Path) -> Row:
    """What a client with one clip after the other waits for each, while each core has a long recording to decode."""
    paths = [folder / f"beside-{number}.mp4" for number in range(len(cores))]
    for path in paths:
        repeat(clip, LONG_S, path)
    with serving(program, cores) as server, ThreadPoolExecutor(len(paths)) as callers:
        alone_ms = median(predict(server.port, clip)[0] for _ in range(rounds))
        long = [callers.submit(predict, server.port, path) for path in paths]
        beside_ms = list[float]()
        while not any(one.done() for one in long):
            beside_ms.append(predict(server.port, clip)[0])
        ended = [one.result() for one in long]
    if not all(answer for _, answer in ended):
        raise SystemExit("a long recording was refused; the service's log says why")
    return {
        "alone_ms": alone_ms,
        "beside_ms": median(beside_ms),
        "slowest_ms": max(beside_ms),
        "clips": len(beside_ms),
        "long_s": [took_ms / 1000 for took_ms, _ in ended],
    }


def usable(server: Server, clips: Path) -> Iterator[Path]:
    """The videos that the service answers."""
    for path in sorted(clips.iterdir()) if clips.is_dir() else ():
        if path.suffix in (".mp4", ".mov", ".webm", ".mkv", ".avi") and predict(server.port, path)[1]:
            yield path


def measure(arguments: argparse.Namespace) -> Row:
    """Every clip that is answered, then the two lengths of the first one."""
    model = served("student", arguments.cache)
    cores = sorted(os.sched_getaffinity(0))
    program = ours(model.folder, model.name, free_port())
    parts = load_parts(model.folder, model.graph)
    with serving(program, cores) as server:
        clips = list(usable(server, arguments.clips))
        rows = {clip.name: compare(parts, server, clip, arguments.rounds) for clip in clips}
    result: Row = {"machine": machine(), "cores": cores, "clips": rows}
    if clips:
        with tempfile.TemporaryDirectory() as folder:
            lengths = (SHORT_S, LONG_S)
            long = [measure_long(program, cores, clips[0], seconds, Path(folder)) for seconds in lengths]
            result["beside"] = measure_beside(program, cores, clips[0], arguments.rounds, Path(folder))
        result["lengths"] = long
        result["time_ratio"] = long[1]["took_s"] / long[0]["took_s"]
        result["memory_ratio"] = long[1]["peak_pss_mb"] / long[0]["peak_pss_mb"]
    return result


def table(result: Mapping[str, Any]) -> str:
    """The stages of each clip, then the lengths, then a clip beside long ones."""
    if not result["clips"]:
        return "no clip was found that the service answers: name a folder of videos with --clips"
    lines = [f"{result['machine']['processor']}, cores {result['cores']}"]
    for name, row in result["clips"].items():
        lines.append(f"{name}: {row['whole_ms']:.1f} ms, {row['ratio']:.2f} times the sum of its parts")
        for stage, service_ms in row["service_ms"].items():
            bare = f"{row['bare_ms'][stage]:9.1f} ms bare" if stage in STAGES else ""
            ratio = f"{row['stage_ratios'][stage]:7.2f} times" if stage in STAGES else ""
            lines.append(f"  {stage:12}{service_ms:9.1f} ms{bare}{ratio}")
    lines += [
        f"{row['seconds']:.0f} s of video: {row['took_s']:.1f} s, PSS {row['pss_before_mb']:.0f} MB before, "
        f"{row['peak_pss_mb']:.0f} MB at most"
        for row in result["lengths"]
    ]
    lines.append(f"ten times the length: {result['time_ratio']:.1f} times the time, {result['memory_ratio']:.2f} PSS")
    beside = result["beside"]
    lines.append(
        f"beside {len(beside['long_s'])} of {LONG_S:.0f} s: {beside['clips']} clips in {beside['beside_ms']:.0f} ms, "
        f"{beside['slowest_ms']:.0f} ms at most ({beside['alone_ms']:.0f} ms alone); the long ones take "
        f"{max(beside['long_s']):.1f} s"
    )
    return "\n".join(lines)


def main() -> None:
    """Print one table, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pipeline.json"))
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="for bundles")
    parser.add_argument("--clips", type=Path, default=CLIPS, help="folder of videos that show a face")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    processes.adopt_orphans()
    result = measure(arguments)
    arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
