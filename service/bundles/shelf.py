"""Bundles on the shelf: what a request finds loaded, and which bundle answers it."""

from dataclasses import dataclass, replace

from models.bundle import Bundle
from models.inputs.face.nets import FaceNets
from models.manifest import GraphSpec
from models.spec import Task
from service.bundles.candidates import falls_to
from service.runtime.runner import Arrays, GraphRunner
from service.uploads.work_rate import Kind

Runners = dict[frozenset[str], GraphRunner]


class UnknownBundle(LookupError):
    """No bundle of this name answers this task; the message says which ones do."""


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle whose graphs run."""

    bundle: Bundle
    runners: dict[frozenset[str], GraphRunner]
    """By the modalities that a graph takes."""
    face_nets: FaceNets | None
    golden: dict[frozenset[str], Arrays]
    """By the modalities that a graph takes: one window that it was proven with. The files may be replaced meanwhile."""

    @property
    def name(self) -> str:
        """The name in the manifest."""
        return self.bundle.manifest.name

    @property
    def task(self) -> Task:
        """What it answers."""
        return self.bundle.manifest.task

    @property
    def identity(self) -> tuple[str, str]:
        """Name and version: equal ones answer alike."""
        return self.bundle.manifest.name, self.bundle.version

    @property
    def queue_key(self) -> str:
        """Names the graph whose queue stands for the bundle's, while it is not known which one will be asked."""
        return next(iter(self.runners.values())).key

    @property
    def recordings(self) -> Kind:
        """Requests with recordings that name no bundle, or this one."""
        return Kind(self.task, self.queue_key, decodes=True)

    @property
    def tensors(self) -> Kind:
        """Requests with tensors for this bundle."""
        return Kind(f"/v2 {self.name}", self.queue_key, decodes=False)

    def runner_for(self, available: frozenset[str]) -> tuple[GraphSpec, GraphRunner] | None:
        """The graph that uses most of what is available, and its runner; None if none can be fed."""
        graph = self.bundle.manifest.graph_for(available)
        return None if graph is None else (graph, self.runners[frozenset(graph.available)])


@dataclass(frozen=True)
class BundleShelf:
    """All loaded bundles, in the order of their folders' names."""

    bundles: tuple[LoadedBundle, ...]
    canaries: tuple[LoadedBundle, ...] = ()
    """Each stands beside the bundle of its name, and answers `canary_share` of its requests."""
    canary_share: float = 0.0
    shadows: tuple[LoadedBundle, ...] = ()
    """Each runs on a sample of what the bundle of its name is asked, and answers nobody."""

    def for_request(self, request_id: str) -> "BundleShelf":
        """The shelf as one request finds it: with the canaries in their bundles' places if it falls to them."""
        if not self.canaries or not falls_to(self.canary_share, request_id):
            return self
        by_name = {canary.name: canary for canary in self.canaries}
        bundles = tuple(by_name.get(loaded.name, loaded) for loaded in self.bundles)
        displaced = tuple(loaded for loaded in self.bundles if loaded.name in by_name)
        return replace(self, bundles=bundles, canaries=displaced)

    def answering(self) -> tuple[LoadedBundle, ...]:
        """All that can answer; of two with one name, the one that does so where no version is asked for is first."""
        return self.bundles + self.canaries

    def everything(self) -> tuple[LoadedBundle, ...]:
        """All that is loaded."""
        return self.bundles + self.canaries + self.shadows

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
        """Every runner that answers, once, also where bundles share it."""
        return list({id(runner): runner for loaded in self.answering() for runner in loaded.runners.values()}.values())
