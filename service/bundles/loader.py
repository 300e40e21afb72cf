"""From folders to the shelf: each bundle checked, warm and proven by its golden inputs before it may answer."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from models import bundle as bundle_format
from models.bundle import MANIFEST, Bundle, BundleError
from models.inputs.face.nets import (
    DETECTOR_FULL_FILE,
    DETECTOR_SHORT_FILE,
    LANDMARKS_FILE,
    FaceNets,
    load_face_nets,
)
from models.manifest import FaceNetFiles, GraphSpec
from service.bundles.candidates import Candidates, misfit
from service.bundles.shelf import BundleShelf, LoadedBundle, Runners
from service.runtime.providers import Providers
from service.runtime.runner import Arrays, GraphError, GraphRunner
from service.threads.plan import ThreadPlan

FACE_NET_THREADS = 1
"""Recordings are prepared side by side, a core each."""


class ShelfReader:
    """Reads the folders of one service as often as it is asked; a bundle that did not change is the same object again.

    Shadows have sessions of their own, with one thread: they must not slow down those who answer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        providers: Providers,
        plan: ThreadPlan,
        canary: Candidates | None = None,
        shadow: Candidates | None = None,
    ) -> None:
        self.folder, self.canary, self.shadow = folder, canary, shadow
        self.loader = BundleLoader(providers, plan)
        self.shadow_loader = BundleLoader(replace(providers, devices=providers.devices[:1]), plan._replace(intra_op=1))

    def folders(self) -> list[Path]:
        """Those that are read."""
        return [self.folder, *(tried.folder for tried in (self.canary, self.shadow) if tried is not None)]

    def read(self) -> BundleShelf:
        """The bundle in the folder, or every bundle in a sub-folder of it, with the candidates beside them. Blocks.

        Raises BundleError, which names the bundle, where one is damaged, cannot run, gives another golden output, or
        cannot stand beside the one of its name.
        """
        bundles = self.loader.load_all(bundle_folders(self.folder))
        canaries = load_candidates("canary", self.canary, self.loader, bundles)
        shadows = load_candidates("shadow", self.shadow, self.shadow_loader, bundles)
        return BundleShelf(bundles, canaries, self.canary.share if self.canary else 0.0, shadows)


def load_candidates(
    kind: str, candidates: Candidates | None, loader: "BundleLoader", beside: Sequence[LoadedBundle]
) -> tuple[LoadedBundle, ...]:
    """All candidates of a kind; BundleError where one cannot be used beside these bundles."""
    if candidates is None or is_empty(candidates.folder):
        return ()
    try:
        loaded = loader.load_all(bundle_folders(candidates.folder))
    except BundleError as error:
        raise BundleError(f"{kind}: {error}") from error
    by_name = {one.name: one for one in beside}
    for one in loaded:
        if one.name not in by_name:
            raise BundleError(f"{kind} {one.name}: no bundle of this name is loaded, only {', '.join(by_name)}")
        if why := misfit(one.bundle.manifest, by_name[one.name].bundle.manifest):
            raise BundleError(f"{kind} {one.name}: {why}")
    return loaded


def is_empty(folder: Path) -> bool:
    """Whether a folder is there, with nothing in it that counts."""
    return folder.is_dir() and all(is_hidden(path) for path in folder.iterdir())


def is_hidden(path: Path) -> bool:
    """What an export or a copy has not finished has such a name, and so have a file system's own folders."""
    return path.name.startswith(".")


def bundle_folders(folder: Path) -> Sequence[Path]:
    """`folder` itself if it holds a manifest, else its sub-folders that do and are not hidden, sorted by name."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; name a bundle, or a folder of bundles")
    if (folder / MANIFEST).exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}") if not is_hidden(path.parent))
    if not found:
        raise BundleError(f"{folder} holds no bundle: no {MANIFEST} in it or in a folder of it; run `pkdot export`")
    return found


@dataclass
class BundleLoader:
    """Loads bundles one after another; what somebody still uses, and has equal hashes, is not loaded again.

    It keeps nothing alive itself: a session is freed when the last request that holds its bundle is done.
    """

    providers: Providers
    plan: ThreadPlan
    bundles: WeakValueDictionary[tuple[Path, str], LoadedBundle] = field(default_factory=WeakValueDictionary)
    runners: WeakValueDictionary[tuple[str, str], GraphRunner] = field(default_factory=WeakValueDictionary)
    face_nets: WeakValueDictionary[tuple[str, ...], FaceNets] = field(default_factory=WeakValueDictionary)

    def load_all(self, paths: Sequence[Path]) -> tuple[LoadedBundle, ...]:
        """Every bundle; BundleError also where two have one name."""
        loaded = tuple(self.load(path) for path in paths)
        names = [one.name for one in loaded]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BundleError(f"two bundles are named {twice[0]!r}; export one of them under another name")
        return loaded

    def load(self, path: Path) -> LoadedBundle:
        """Check, load, warm and prove one bundle; BundleError names it."""
        try:
            bundle = bundle_format.load(path)
            unchanged = self.bundles.get((path, bundle.version))
            if unchanged is not None:
                return unchanged
            runners = {frozenset(graph.available): self.runner(bundle, graph) for graph in bundle.manifest.graphs}
            ways = (False, True) if self.plan.intra_op > 1 else (False,)
            for device, alone in product(range(len(self.providers.devices)), ways):
                bundle_format.check_golden(bundle, partial(run_on, device, alone, runners))
            golden = {frozenset(graph.available): first_window(bundle, graph) for graph in bundle.manifest.graphs}
            loaded = LoadedBundle(bundle, runners, self.nets(bundle), golden)
        except (BundleError, GraphError) as error:
            raise BundleError(f"bundle {path.name}: {error}") from error
        self.bundles[path, bundle.version] = loaded
        return loaded

    def runner(self, bundle: Bundle, graph: GraphSpec) -> GraphRunner:
        """A warm runner, shared by bundles that feed an equal file, and read what it puts out, in the same way."""
        digest = bundle.manifest.files[graph.file]
        names = sorted(graph.inputs.items()), graph.output, sorted(graph.uncertainty.items())
        identity = digest, repr(names)
        runner = self.runners.get(identity)
        if runner is None:
            runner = GraphRunner(
                bundle.file(graph.file),
                graph,
                providers=self.providers,
                intra_op_threads=1,
                lone_threads=self.plan.intra_op,
                key=hashlib.sha256(repr(identity).encode()).hexdigest()[:12],
            )
            example, _ = bundle.golden(graph)
            try:
                runner.warm(example)
            except Exception as error:  # onnxruntime's errors share no base of their own
                raise BundleError(f"{graph.file}: the golden input cannot be run: {error}") from error
            self.runners[identity] = runner
        return runner

    def nets(self, bundle: Bundle) -> FaceNets | None:
        """The bundle's face nets, shared by bundles that carry equal ones."""
        files = bundle.manifest.face
        if files is None:
            return None
        digests = tuple(bundle.manifest.files[name] for name in net_files(files))
        nets = self.face_nets.get(digests)
        if nets is None:
            folder = net_folder(bundle, files)
            try:
                nets = load_face_nets(folder, threads=FACE_NET_THREADS)
            except Exception as error:  # onnxruntime's errors share no base of their own
                raise BundleError(f"{folder.name}/: a face net cannot be loaded: {error}") from error
            self.face_nets[digests] = nets
        return nets


def first_window(bundle: Bundle, graph: GraphSpec) -> Arrays:
    """The first of the graph's golden inputs, without the batch axis; of the others nothing is kept."""
    inputs, _ = bundle.golden(graph)
    return {modality: array[0].copy() for modality, array in inputs.items()}


def run_on(device: int, alone: bool, runners: Runners, graph: GraphSpec, arrays: Arrays) -> NDArray[np.generic]:
    """The graph's output on the device of this place among all, with other runs beside it or `alone`."""
    return runners[frozenset(graph.available)].on_device(device, alone=alone).prove(arrays)


def net_files(files: FaceNetFiles) -> Iterator[str]:
    """The three names, always in the same order."""
    yield from (files.detector_short, files.detector_full, files.landmarks)


def net_folder(bundle: Bundle, files: FaceNetFiles) -> Path:
    """The folder of the three nets; BundleError unless they lie together under their own names."""
    paths = [bundle.file(name) for name in net_files(files)]
    expected = [DETECTOR_SHORT_FILE, DETECTOR_FULL_FILE, LANDMARKS_FILE]
    if len({path.parent for path in paths}) != 1 or [path.name for path in paths] != expected:
        raise BundleError(f"{files.detector_short}: face nets must lie in one folder as {', '.join(expected)}")
    return paths[0].parent
