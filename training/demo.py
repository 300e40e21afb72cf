"""`pkdot demo`: the whole line on drawn people, from corpus to answer, in plain sentences."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.config import load_config
from training.corpora.clip import Clip
from training.run import evaluate_run, export_run
from training.run_folder import RunFolder
from training.stages.kept import label, shared_stages, student_stages
from training.stages.methods import ROWS
from training.stages.prepare import open_setting

RECIPES = {"pain": "synthetic-pain.yaml", "valence-arousal": "synthetic-valence-arousal.yaml"}


def run_demo(out: Path, port: int, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train, export, serve and ask for both tasks: the answers by task, each also given to `show` when it comes.

    What an earlier call finished in `out` is not done again. Raises OSError where the port is taken.
    """
    begun = time.monotonic()
    _refuse_taken(port)
    clips = {task: _make_bundle(task, out) for task in RECIPES}
    say("Start the service on the two bundles.")
    command = [sys.executable, "-m", "service", "serve", "--json", "--bundles", str(out / "bundles")]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    answers: dict[str, Any] = {}
    try:
        address = _address(server)
        for task, clip in clips.items():
            assert clip.video is not None  # the synthetic corpora have a video for each clip
            say(f"POST /predict/{task} with {clip.video.name}, a clip of a person whom the student never saw.")
            answers[task] = _post(f"{address}/predict/{task}", clip.video)
            show(answers[task])
        say(f"Done after {time.monotonic() - begun:.0f} s. The bundles are in {out / 'bundles'}.")
        if sys.stdout.isatty():
            say(f"The service stays up at {address} (try {address}/docs); Ctrl-C stops it.")
            server.wait()
    except KeyboardInterrupt:
        say("Stopping.")
    finally:
        server.terminate()
        server.wait(timeout=60)
    return answers


def say(sentence: str) -> None:
    """One sentence for the person who watches."""
    print(f"\n== {sentence}", file=sys.stderr, flush=True)


def shortened(answer: dict[str, Any]) -> str:
    """The answer as it came, but for the windows after the first."""
    windows = answer["windows"]
    text = json.dumps({**answer, "windows": windows[:1]}, indent=1)
    return text + (f"\n(and {len(windows) - 1} more windows like the one shown)" if len(windows) > 1 else "")


def _make_bundle(task: str, out: Path) -> Clip:
    """Train and export one task; returns a test clip to ask about."""
    config = load_config(Path(__file__).parent / "configs" / RECIPES[task])
    folder = RunFolder(out / task)
    folder.check(config, resume=True)
    say(f"{task}: draw the synthetic corpus in {config.corpus.kind}'s format, find the faces, cut the windows.")
    with open_setting(config, folder.path) as setting:
        folder.begin(config, setting.contents, resume=True)
        counts = ", ".join(f"{count} {part}" for part, count in setting.split.counts(setting.corpus.clips).items())
        say(f"{task}: train the teacher on {', '.join(config.modalities)}. People: {counts}.")
        encoders, teacher = shared_stages(setting, folder)
        for available in config.students:
            missing = config.missing(available)
            if missing:
                say(f"{task}: distil a student that has {label(available)} and hallucinates {', '.join(missing)}.")
            name = f"student-{label(available)}"
            student_stages(setting, folder, encoders, teacher, available, ROWS["PKDOT"], name)
        for who, scores in evaluate_run(setting, folder).items():
            print(f"   {who}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()), file=sys.stderr)
        say(f"{task}: export the students as one bundle of ONNX graphs and prove them equal to torch.")
        export_run(setting, folder, to=out / "bundles" / task)
        return next(clip for clip in setting.corpus.clips if clip.id in setting.split.test)


def _refuse_taken(port: int) -> None:
    """Raise OSError where something listens on the port: better before the training than after it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OSError(f"port {port} cannot be used ({error.strerror}); give another with --port") from None


def _address(server: "subprocess.Popen[str]") -> str:
    """Where the service answers: it says so itself as soon as it is ready."""
    assert server.stdout is not None
    said = server.stdout.readline()
    if not said:
        raise OSError(f"the service stopped with exit code {server.wait()} before it was ready")
    return str(json.loads(said)["url"])


def _post(url: str, video: Path) -> dict[str, Any]:
    """Send one file as multipart/form-data, as `curl -F video=@FILE` does."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="{video.name}"\r\n\r\n'
    body = head.encode() + video.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(url, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answered {error.code}: {error.read().decode()}") from None
