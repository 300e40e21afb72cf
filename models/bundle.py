"""The bundle: a folder that holds all a service needs, and nothing that it must trust blindly.

`load` and `check` read files and schema only; what runs the graphs is passed in (`check_golden`), so that neither
torch nor onnxruntime is needed here. Hashes prove that a bundle is whole, not who made it: mount bundles read-only.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.manifest import SCHEMA_VERSION, GraphSpec, Manifest, output_width, schema_support
from models.onnx_file import STANDARD_DOMAINS, onnx_facts
from models.spec import key_of

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_OPSET = 23
"""The newest opset that onnxruntime 1.31 runs on every provider we offer."""

DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error)

Arrays = Mapping[str, NDArray[np.generic]]


class BundleError(ValueError):
    """The bundle cannot be used; the message says which file, what was expected and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `version` is the manifest's SHA-256, shortened: equal versions answer alike."""

    path: Path
    manifest: Manifest
    version: str

    def file(self, name: str) -> Path:
        """Where a file of the manifest lies."""
        return self.path / PurePosixPath(name)

    def golden(self, graph: GraphSpec) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.float32]]:
        """Golden inputs by modality, and the output that torch gave for them; BundleError if they are not that."""
        try:
            with self.file(graph.golden).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (ValueError, TypeError, AttributeError, OSError, EOFError, RuntimeError, *DAMAGED_ZIP) as error:
            raise BundleError(f"{graph.golden} is no npz of plain arrays; export the bundle again") from error
        if missing := sorted({*graph.available, "output"} - set(arrays)):
            raise BundleError(f"{graph.golden} holds no array {', '.join(missing)}; export the bundle again")
        output = arrays["output"]
        width = output_width(self.manifest.task, self.manifest.levels, self.manifest.values)
        if output.ndim != 2 or len(output) < 1 or output.shape[1] != width or not _all_finite(output):
            raise BundleError(f"{graph.golden}: output is {output.shape}, expected finite (1 or more, {width})")
        for modality in graph.available:
            array, shape = arrays[modality], (len(output), *self.manifest.inputs.shape(modality))
            dtype = self.manifest.inputs.dtype(modality)
            if array.shape != shape or array.dtype != dtype:
                raise BundleError(
                    f"{graph.golden}: {modality} is {array.dtype} {array.shape}, the manifest says {dtype} {shape}"
                )
        return {name: arrays[name] for name in graph.available}, output


def load(path: Path | str) -> Bundle:
    """Read and check the bundle in folder `path`; BundleError if anything about it is not as its manifest says."""
    try:
        return _load(Path(path))
    except OSError as error:
        raise BundleError(
            f"{error.filename or path} cannot be read ({error.strerror}); copy the bundle again, readable for this user"
        ) from error


def _load(root: Path) -> Bundle:
    """The same. Raises OSError too."""
    manifest, raw = _read_manifest(root)
    _check_files(root, manifest)
    bundle = Bundle(root, manifest, hashlib.sha256(raw).hexdigest()[:12])
    for graph in manifest.graphs:
        _check_onnx(bundle.file(graph.file), graph.file)
    if manifest.face:
        for name in manifest.face.model_dump().values():
            _check_onnx(bundle.file(name), name)
    return bundle


def check(path: Path | str) -> None:
    """BundleError unless folder `path` holds a whole bundle: schema, files, hashes, ONNX facts. Runs nothing."""
    load(path)


def check_golden(bundle: Bundle, run: Callable[[GraphSpec, Arrays], NDArray[np.generic]]) -> float:
    """Run every golden input through `run`; returns the largest difference, BundleError where it is too large.

    Values with a unit of their own differ in units of the graph's `output_scale`.
    """
    worst = 0.0
    for graph in bundle.manifest.graphs:
        inputs, expected = bundle.golden(graph)
        answer = np.asarray(run(graph, inputs))
        if answer.shape != expected.shape or not np.isfinite(answer).all():
            raise BundleError(f"{graph.file}: the golden input gives {answer.shape}, expected finite {expected.shape}")
        difference = float((np.abs(answer - expected) / np.array(graph.output_scale or (1.0,))).max())
        if difference > graph.golden_tolerance:
            raise BundleError(
                f"{graph.file}: the golden output differs by {difference:.2g}, at most {graph.golden_tolerance:g} is "
                "allowed; the runtime or the device computes something else than what was exported"
            )
        worst = max(worst, difference)
    return worst


def write(path: Path, manifest_without_files: dict[str, object]) -> Bundle:
    """Hash what lies in folder `path`, write its manifest, and load the result."""
    hashes = {
        file.relative_to(path).as_posix(): _sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file != path / MANIFEST
    }
    manifest = Manifest.model_validate(
        {"schema_version": SCHEMA_VERSION, "files": hashes, **manifest_without_files}, strict=False
    )
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return load(path)


def _read_manifest(root: Path) -> tuple[Manifest, bytes]:
    file = root / MANIFEST
    if not root.is_dir():
        raise BundleError(f"{root} is not a folder; a bundle is a folder with {MANIFEST}")
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{root} holds no {MANIFEST}; point to a folder that `pkdot export` wrote")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes")
    raw = file.read_bytes()
    try:
        values = json.loads(raw)
        version = str(values["schema_version"])
        support = schema_support(version)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"{MANIFEST} is not JSON with a schema_version like {SCHEMA_VERSION!r}") from None
    if support == "newer":
        raise BundleError(f"{MANIFEST} has schema {version}, this code reads {SCHEMA_VERSION}: upgrade pkdot")
    if support == "older":
        raise BundleError(f"{MANIFEST} has schema {version}, this code reads {SCHEMA_VERSION}: export the bundle again")
    try:
        return Manifest.model_validate_json(raw, extra="ignore" if support == "known part" else "forbid"), raw
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{MANIFEST}: {key_of(first['loc']) or 'manifest'}: {first['msg']}") from None


def _check_files(root: Path, manifest: Manifest) -> None:
    for entry in root.rglob("*"):
        name = entry.relative_to(root).as_posix()
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise BundleError(f"{name} is a link or a device; a bundle holds plain files only")
        if entry.is_file() and name != MANIFEST and name not in manifest.files:
            raise BundleError(f"{name} is not listed in {MANIFEST}; remove it or export the bundle again")
    for name, expected in manifest.files.items():
        file = root / PurePosixPath(name)
        if not file.is_file():
            raise BundleError(f"{name} is missing; copy the whole bundle again")
        if _sha256(file) != expected:
            raise BundleError(f"{name} does not match its SHA-256; it was changed or damaged after export")


def _check_onnx(file: Path, name: str) -> None:
    try:
        facts = onnx_facts(file.read_bytes())
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from None
    if facts.external_data:
        raise BundleError(f"{name} keeps weights in another file; a bundle's graphs hold their own")
    if custom := sorted(facts.domains - STANDARD_DOMAINS):
        raise BundleError(f"{name} uses operators of {', '.join(custom)}; only ONNX's own are allowed")
    if not 0 < facts.opset <= MAX_OPSET:
        raise BundleError(f"{name} needs opset {facts.opset}, at most {MAX_OPSET} runs here: upgrade pkdot")


def _all_finite(array: NDArray[np.generic]) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating) and np.isfinite(np.asarray(array, np.float64)).all())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
