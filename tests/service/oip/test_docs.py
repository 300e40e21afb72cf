"""The example of the documentation, run as it stands there."""

import contextlib
import io
import re
from pathlib import Path
from typing import Protocol

PAGE = Path(__file__).parents[3] / "docs" / "open-inference-protocol.md"


class LiveServer(Protocol):
    """What `live` gives."""

    @property
    def port(self) -> int: ...


def test_the_example_of_the_documentation_runs(live: LiveServer) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    here = example.replace("localhost:8000", f"127.0.0.1:{live.port}").replace("synthetic-valence-arousal", "affect")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(here + "\nclient.close()\n", {})

    assert printed.getvalue() == "[[0. 0.]\n [0. 0.]\n [0. 0.]\n [0. 0.]]\n"
