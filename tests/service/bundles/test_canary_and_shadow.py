"""Two versions of one name side by side, through a real socket."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from service.settings import Settings

TOKEN = "open-sesame"
REQUESTS = 200
Open = Callable[[Settings], AbstractContextManager[Any]]
Write = Callable[..., str]
Call = Callable[[Any], Any]
Eventually = Callable[[Callable[[], bool]], None]


class Folders(NamedTuple):
    """A bundle of gain 1, and a candidate of gain 3."""

    bundles: Path
    next: Path
    old: str
    new: str


@pytest.fixture
def folders(tmp_path: Path, write: Write) -> Folders:
    bundles, following = tmp_path / "bundles", tmp_path / "next"
    old, new = write(bundles / "load", 1.0), write(following / "load", 3.0)
    write(bundles / "other", 5.0, name="other")
    return Folders(bundles, following, old, new)


def settings(folders: Folders, **values: Any) -> Settings:
    return Settings.model_validate({"bundles": folders.bundles, "port": 0, "admin_token": TOKEN} | values)


def position(request_id: str) -> float:
    return int(hashlib.sha256(request_id.encode()).hexdigest()[:16], 16) / 16**16


def test_the_canary_answers_the_share_that_the_hash_gives(folders: Folders, call: Call, open_server: Open) -> None:
    ids = [f"request-{number}" for number in range(REQUESTS)]
    with open_server(settings(folders, canary=f"{folders.next}@0.3")) as live:
        caller = call(live)
        answers = {name: caller.answer(request_id=name) for name in ids}
        again = {name: caller.answer(request_id=name) for name in ids[:20]}
        other = {caller.answer("other", request_id=name)[1] for name in ids[:20]}
        metrics = caller.metrics()

    expected = {name: (folders.new, 30.0) if position(name) < 0.3 else (folders.old, 10.0) for name in ids}
    assert answers == expected
    assert again == {name: expected[name] for name in again}
    assert other == {50.0}
    count = Counter(version for version, _ in answers.values())
    assert 0.2 < count[folders.new] / REQUESTS < 0.4
    repeated = sum(version == folders.new for version, _ in again.values())
    series = f'pkdot_windows_total{{bundle="load",outcome="answered",task="regression",version="{folders.new}"}}'
    assert f"{series} {count[folders.new] + repeated}.0" in metrics


def test_a_version_that_is_asked_for_answers(folders: Folders, call: Call, open_server: Open) -> None:
    with open_server(settings(folders, canary=f"{folders.next}@0.5")) as live:
        caller = call(live)
        for number in range(10):
            for version in (folders.old, folders.new):
                name = f"request-{number}"
                assert caller.answer(f"load/versions/{version}", request_id=name)[0] == version
        metadata = caller.client.get("/v2/models/load").json()

    assert sorted(metadata["versions"]) == sorted([folders.old, folders.new])


def test_models_lists_the_candidates_with_their_shares(folders: Folders, call: Call, open_server: Open) -> None:
    values = {"canary": f"{folders.next}@0.25", "shadow": f"{folders.next}@0.05"}
    with open_server(settings(folders, **values)) as live:
        models = call(live).client.get("/models").json()["models"]

    listed = [(one["name"], one["version"], one["role"], one["share"]) for one in models]
    assert listed[0] == ("load", folders.old, "bundle", 0.75)
    assert listed[1][::2] == ("other", "bundle")
    assert listed[1][3] == 1.0
    assert listed[2:] == [("load", folders.new, "canary", 0.25), ("load", folders.new, "shadow", 0.05)]


def test_a_canary_ends_when_its_folder_is_emptied_and_is_promoted_by_a_copy(
    folders: Folders, call: Call, open_server: Open
) -> None:
    with open_server(settings(folders, canary=f"{folders.next}@1")) as live:
        caller = call(live)
        assert caller.answer() == (folders.new, 30.0)
        shutil.move(folders.next / "load", folders.next.parent / "saved")
        report = caller.reload().json()
        assert [(one["version"], one["role"]) for one in report["removed"]] == [(folders.new, "canary")]
        assert caller.answer() == (folders.old, 10.0)
        shutil.rmtree(folders.bundles / "load")
        shutil.move(folders.next.parent / "saved", folders.bundles / "load")
        assert caller.reload().status_code == 200
        assert caller.answer() == (folders.new, 30.0)


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_candidate_without_its_bundle_is_refused(
    folders: Folders, write: Write, call: Call, open_server: Open, kind: str
) -> None:
    with open_server(settings(folders, **{kind: f"{folders.next}@0.5"})) as live:
        write(folders.next / "stranger", 1.0, name="stranger")
        refused = call(live).reload()

    assert refused.status_code == 422
    assert f"{kind} stranger: no bundle of this name is loaded, only load, other" in refused.json()["detail"]


def test_a_shadow_is_measured_and_changes_no_answer(
    folders: Folders, call: Call, open_server: Open, eventually: Eventually
) -> None:
    with open_server(settings(folders, shadow=f"{folders.next}@1")) as live:
        caller = call(live)
        answers = set()
        for count in range(1, 6):
            answers.add(caller.answer())
            series = f"pkdot_shadow_difference_count{labels()} {count}.0"
            eventually(partial(has, caller, series))
        metrics = caller.metrics()

    assert answers == {(folders.old, 10.0)}
    assert f"pkdot_shadow_difference_sum{labels()} 100.0" in metrics  # five times |10 - 30|
    assert 'pkdot_shadow_windows_total{bundle="load",outcome="compared"} 5.0' in metrics
    assert f'version="{folders.new}"' not in metrics.replace(f'bundle_info{{name="load",version="{folders.new}"}}', "")


def has(caller: Any, series: str) -> bool:
    return series in caller.metrics()


def labels() -> str:
    return '{bundle="load",output="load"}'


def test_a_shadow_that_fails_changes_nothing(
    folders: Folders, call: Call, open_server: Open, eventually: Eventually
) -> None:
    with open_server(settings(folders, shadow=f"{folders.next}@1")) as live:
        runner = next(iter(live.server.lifecycle.require().shelf.shadows[0].runners.values()))
        runner.run = broken
        caller = call(live)
        assert caller.answer() == (folders.old, 10.0)
        failed = 'pkdot_shadow_windows_total{bundle="load",outcome="failed"} 1.0'
        eventually(lambda: failed in caller.metrics())
        assert caller.answer() == (folders.old, 10.0)
        assert caller.client.get("/health/ready").status_code == 200


def broken(_: Any) -> None:
    raise RuntimeError("a shadow's own fault")


def test_the_recordings_of_predict_are_shadowed_too(
    bundles_folder: Path,
    make_pain_bundle: Callable[..., Path],
    tmp_path: Path,
    clips: Path,
    open_server: Open,
    call: Call,
    eventually: Eventually,
) -> None:
    make_pain_bundle(tmp_path / "next" / "pain", seed=5)
    shadowed = Settings.model_validate({"bundles": bundles_folder, "port": 0, "shadow": f"{tmp_path / 'next'}@1"})
    with open_server(shadowed) as live:
        caller = call(live)
        picture = {"frames": (clips / "single_face.jpg").read_bytes()}
        reply = caller.client.post("/predict/pain", files=picture)
        eventually(lambda: 'pkdot_shadow_difference_count{bundle="pain-test",output="pain"} 1.0' in caller.metrics())

    assert reply.status_code == 200


@pytest.mark.parametrize("share", [0.0001, 1])
def test_the_answers_of_predict_say_which_version_they_are_from(
    bundles_folder: Path,
    make_pain_bundle: Callable[..., Path],
    tmp_path: Path,
    clips: Path,
    open_server: Open,
    call: Call,
    share: float,
) -> None:
    make_pain_bundle(tmp_path / "next" / "pain", seed=5)
    tried = Settings.model_validate({"bundles": bundles_folder, "port": 0, "canary": f"{tmp_path / 'next'}@{share}"})
    with open_server(tried) as live:
        shelf = live.server.lifecycle.require().shelf
        picture = {"frames": (clips / "single_face.jpg").read_bytes()}
        reply: httpx2.Response = call(live).client.post("/predict/pain", files=picture, headers={"X-Request-ID": "a"})

    expected = shelf.canaries[0] if share == 1 else shelf.find("pain")
    assert reply.json()["bundle"]["version"] == expected.bundle.version
