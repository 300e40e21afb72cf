"""The example of the documentation, run as it stands there."""

import ast
import contextlib
import io
import re
import threading
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "streaming.md"


def test_the_example_of_the_documentation_runs(
    live: Any, face_jpegs: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frames").mkdir()
    for n, jpeg in enumerate(face_jpegs[:8]):
        (tmp_path / "frames" / f"{n}.jpg").write_bytes(jpeg)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    printed = io.StringIO()
    before = set(threading.enumerate())
    with contextlib.redirect_stdout(printed):
        exec(example.replace("localhost:8000", f"127.0.0.1:{live.port}"), {"__name__": "example"})
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("Thread"):
            thread.join()

    *windows, summary = printed.getvalue().splitlines()
    assert [window.split()[0] for window in windows] == ["0.0", "0.5"]
    assert ast.literal_eval(summary)["summary"]["windows"] == 2
