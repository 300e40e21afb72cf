"""Bundles on the shelf: each one checked, warm and proven by its golden inputs before it may answer."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models import bundle as bundle_format
from models.bundle import MANIFEST, Bundle, BundleError
from models.inputs.face_nets import (
    DETECTOR_FULL_FILE,
    DETECTOR_SHORT_FILE,
    LANDMARKS_FILE,
    FaceNets,
    load_face_nets,
)
from models.manifest import FaceNetFiles, GraphSpec
from service.runtime import GraphError, GraphRunner, Providers
from service.threads import ThreadPlan

FACE_NET_THREADS = 1
"""Recordings are prepared side by side, a core each."""


class UnknownBundle(LookupError):
    """No bundle of this name answers this task; the message says which ones do."""


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle whose graphs run."""

    bundle: Bundle
    runners: dict[frozenset[str], GraphRunner]
    """By the modalities that a graph takes."""
    face_nets: FaceNets | None

    @property
    def name(self) -> str:
        """The name in the manifest."""
        return self.bundle.manifest.name

    @property
    def task(self) -> str:
        """`pain` or `valence-arousal`."""
        return self.bundle.manifest.task

    def runner_for(self, available: frozenset[str]) -> tuple[GraphSpec, GraphRunner] | None:
        """The graph that uses most of what is available, and its runner; None if none can be fed."""
        graph = self.bundle.manifest.graph_for(available)
        return None if graph is None else (graph, self.runners[frozenset(graph.available)])


@dataclass(frozen=True)
class BundleShelf:
    """All loaded bundles, in the order of their folders' names."""

    bundles: tuple[LoadedBundle, ...]

    def find(self, task: str, name: str | None = None) -> LoadedBundle:
        """The bundle called `name`, or the task's first one; UnknownBundle where there is none."""
        fitting = [loaded for loaded in self.bundles if loaded.task == task]
        names = ", ".join(loaded.name for loaded in fitting) or "none"
        if name is None:
            if not fitting:
                raise UnknownBundle(f"no bundle for {task} is loaded")
            return fitting[0]
        for loaded in self.bundles:
            if loaded.name == name and loaded.task == task:
                return loaded
            if loaded.name == name:
                raise UnknownBundle(f"bundle {name!r} answers {loaded.task}, not {task}; for {task} there is: {names}")
        raise UnknownBundle(f"no bundle {name!r} is loaded; for {task} there is: {names}")

    def runners(self) -> list[GraphRunner]:
        """Every runner once, also where bundles share it."""
        return list({id(runner): runner for loaded in self.bundles for runner in loaded.runners.values()}.values())


def load_shelf(folder: Path, *, providers: Providers, plan: ThreadPlan) -> BundleShelf:
    """Load the bundle in `folder`, or every bundle in a sub-folder of it.

    Raises BundleError, which names the bundle, where one is damaged, cannot run, or gives another golden output.
    """
    loader = BundleLoader(providers, plan)
    loaded = [loader.load(path) for path in bundle_folders(folder)]
    names = [one.name for one in loaded]
    for one in loaded:
        if names.count(one.name) > 1:
            raise BundleError(f"two bundles are named {one.name!r}; export one of them under another name")
    return BundleShelf(tuple(loaded))


def bundle_folders(folder: Path) -> Sequence[Path]:
    """`folder` itself if it holds a manifest, else its sub-folders that do, sorted by name."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; name a bundle, or a folder of bundles")
    if (folder / MANIFEST).exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not found:
        raise BundleError(f"{folder} holds no bundle: no {MANIFEST} in it or in a folder of it; run `pkdot export`")
    return found


@dataclass
class BundleLoader:
    """Loads bundles one after another; files with equal hashes are loaded once."""

    providers: Providers
    plan: ThreadPlan
    runners: dict[tuple[str, str], GraphRunner] = field(default_factory=dict)
    face_nets: dict[tuple[str, ...], FaceNets] = field(default_factory=dict)

    def load(self, path: Path) -> LoadedBundle:
        """Check, load, warm and prove one bundle; BundleError names it."""
        try:
            bundle = bundle_format.load(path)
            runners = {frozenset(graph.available): self.runner(bundle, graph) for graph in bundle.manifest.graphs}
            bundle_format.check_golden(bundle, lambda graph, arrays: runners[frozenset(graph.available)].run(arrays))
            return LoadedBundle(bundle, runners, self.nets(bundle))
        except (BundleError, GraphError) as error:
            raise BundleError(f"bundle {path.name}: {error}") from error

    def runner(self, bundle: Bundle, graph: GraphSpec) -> GraphRunner:
        """A warm runner, shared by bundles that feed an equal file in the same way."""
        digest = bundle.manifest.files[graph.file]
        identity = digest, repr((sorted(graph.inputs.items()), graph.output))
        if identity not in self.runners:
            runner = GraphRunner(
                bundle.file(graph.file),
                graph,
                providers=self.providers,
                intra_op_threads=self.plan.intra_op,
                key=hashlib.sha256(repr(identity).encode()).hexdigest()[:12],
            )
            example, _ = bundle.golden(graph)
            try:
                runner.warm(example)
            except Exception as error:  # onnxruntime's errors share no base of their own
                raise BundleError(f"{graph.file}: the golden input cannot be run: {error}") from error
            self.runners[identity] = runner
        return self.runners[identity]

    def nets(self, bundle: Bundle) -> FaceNets | None:
        """The bundle's face nets, shared by bundles that carry equal ones."""
        files = bundle.manifest.face
        if files is None:
            return None
        digests = tuple(bundle.manifest.files[name] for name in net_files(files))
        if digests not in self.face_nets:
            folder = net_folder(bundle, files)
            try:
                self.face_nets[digests] = load_face_nets(folder, threads=FACE_NET_THREADS)
            except Exception as error:  # onnxruntime's errors share no base of their own
                raise BundleError(f"{folder.name}/: a face net cannot be loaded: {error}") from error
        return self.face_nets[digests]


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
