"""The locks, the SBOM and the audit: what can be known of them without a network."""

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ENTRY = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)([^\n]*(?:\n    [^\n]*)*)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package in a lock."""
    found = ENTRY.findall((DOCKER / name).read_text(encoding="utf-8"))
    return {canonicalize_name(package): (version, len(HASH.findall(rest))) for package, version, rest in found}


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(package): version.strip() for package, version in pairs}


def needed(requirements: list[str]) -> set[str]:
    """The names of all that these need, by what the installed packages say."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            inner = Requirement(text)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    return found


def test_the_lock_of_the_cpu_image_is_the_serving_half_and_nothing_else() -> None:
    extra = PROJECT["project"]["optional-dependencies"]["serve"]

    assert set(locked("serve.lock")) == needed(PROJECT["project"]["dependencies"] + extra)
    assert "torch" not in locked("serve.lock")


def test_the_lock_of_the_gpu_image_differs_by_the_runtime() -> None:
    cpu, gpu = locked("serve.lock"), locked("gpu.lock")

    assert set(cpu) - set(gpu) == {"onnxruntime"}
    added = set(gpu) - set(cpu)
    assert "onnxruntime-gpu" in added
    assert all(name.startswith("nvidia-") for name in added - {"onnxruntime-gpu"})


@pytest.mark.parametrize("lock", ["serve.lock", "gpu.lock", "build.lock"])
def test_every_line_of_a_lock_has_hashes_and_the_version_of_the_constraints(lock: str) -> None:
    versions = pinned()

    assert locked(lock)
    assert [name for name, (_, hashes) in locked(lock).items() if hashes == 0] == []
    for name, (version, _) in locked(lock).items():
        assert name.startswith("nvidia-") or versions[name] == version


def test_the_build_needs_what_its_lock_has() -> None:
    assert set(locked("build.lock")) == {
        canonicalize_name(Requirement(text).name) for text in PROJECT["build-system"]["requires"]
    }


def test_the_constraints_have_no_hashes() -> None:
    # torch has one version and several builds
    assert "--hash" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundled() -> Any:
    done = subprocess.run([sys.executable, DOCKER / "bundled.py"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_sbom_sees_what_is_inside_the_wheels(bundled: dict[str, Any]) -> None:
    sbom = load("sbom")
    ffmpeg, *libraries = sbom.components(bundled, "av")
    carried = {file.name for file in (Path(av.__file__).parents[1] / "av.libs").iterdir()}

    assert (ffmpeg["name"], ffmpeg["version"]) == ("ffmpeg", av.ffmpeg_version_info)
    assert {one["properties"][0]["value"] for one in libraries} == carried
    assert all(len(one["hashes"][0]["content"]) == 64 for one in libraries)


def test_every_library_in_the_image_has_a_known_licence(bundled: dict[str, Any]) -> None:
    sbom = load("sbom")
    served = {library["name"] for library in bundled["libraries"] if library["package"] in locked("serve.lock")}

    assert served
    assert served - set(sbom.LICENCES) == set()


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "nothing is known against its 1 packages"),
        ([{"name": "a", "skip_reason": "not found"}], 2, "1 of 1 packages were not checked: a"),
        (None, 2, "nothing was checked"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            1,
            "a 1: CVE-1, mended in 2",
        ),
    ],
)
def test_an_audit_that_could_not_ask_never_says_that_all_is_well(
    packages: list[dict[str, Any]] | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("audit").judge("x.lock", packages) == code
    assert said in capsys.readouterr().out
