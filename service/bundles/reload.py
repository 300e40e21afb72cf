"""Hot swap: the folders of bundles are read again beside the ones that serve, and then take their place at once.

A request keeps the bundle that it began with. What cannot serve is refused, and nothing changes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from models.bundle import BundleError
from service.bundles.loader import ShelfReader
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.errors import BundleRefused, ReloadRunning, ServiceError
from service.runtime.providers import ProvidersError
from service.threads.offload import ended, offload
from service.threads.priority import stand_back

Role = Literal["bundle", "canary", "shadow"]

logger = logging.getLogger("pkdot")


class Entry(NamedTuple):
    """A loaded bundle, and what it is there for."""

    name: str
    version: str
    role: Role

    def __str__(self) -> str:
        return f"{self.role} {self.name} {self.version}"


class Reloaded(NamedTuple):
    """What a reload has changed."""

    loaded: list[Entry]
    kept: list[Entry]
    removed: list[Entry]
    took_s: float

    def __str__(self) -> str:
        parts = (("loaded", self.loaded), ("kept", self.kept), ("removed", self.removed))
        changes = (f"{what} {', '.join(map(str, entries)) or 'nothing'}" for what, entries in parts)
        return f"bundles reloaded in {self.took_s:.2f} s: {'; '.join(changes)}"


class Reloader:
    """One reload at a time, in one thread. `adopt` puts a shelf in the place of the `current` one."""

    def __init__(
        self, reader: ShelfReader, current: Callable[[], BundleShelf], adopt: Callable[[BundleShelf], None]
    ) -> None:
        self.reader, self.current, self.adopt = reader, current, adopt
        self.lock = asyncio.Lock()
        self.asked = asyncio.Event()

    def start(self) -> None:
        """Begin to listen to `ask`."""
        self.thread = ThreadPoolExecutor(1, "reload", initializer=stand_back)
        self.listener = asyncio.create_task(self.listen(), name="reload")

    async def close(self) -> None:
        """Wait for the reload at work, if there is one."""
        self.listener.cancel()
        await ended(self.listener)
        self.thread.shutdown()

    def ask(self) -> None:
        """Reload soon: after the reload at work, which may have read too early. What comes of it is logged."""
        self.asked.set()

    async def listen(self) -> None:
        """Do what `ask` asks for."""
        while True:
            await self.asked.wait()
            self.asked.clear()
            try:
                async with self.lock:
                    await self.exchange(lambda: None)
            except ServiceError:
                pass  # logged where it was raised
            except Exception:
                logger.exception("the bundles could not be reloaded; the loaded ones go on")

    async def reload(self, take_along: Callable[[], None]) -> Reloaded:
        """Reload now, with `take_along` as the last step before the bundles change places.

        Raises ReloadRunning, BundleRefused where a bundle cannot serve, and what `take_along` raises; no bundle has
        changed then, and after the first two nothing else either.
        """
        if self.lock.locked():
            raise ReloadRunning("another reload is at work; it may have read too early, so ask again when it is done")
        async with self.lock:
            return await self.exchange(take_along)

    async def exchange(self, take_along: Callable[[], None]) -> Reloaded:
        began_s = time.monotonic()
        try:
            shelf = await offload(self.thread, self.reader.read)
        except (BundleError, ProvidersError, OSError) as error:
            logger.warning("the bundles were not reloaded, the loaded ones go on: %s", error)
            reason = without_paths(str(error), self.reader.folders())
            raise BundleRefused(f"{reason}; nothing was changed, the loaded bundles go on") from error
        take_along()
        before, after = entries(self.current()), entries(shelf)
        self.adopt(shelf)
        report = Reloaded(
            loaded=[entry for entry in after if entry not in before],
            kept=[entry for entry in after if entry in before],
            removed=[entry for entry in before if entry not in after],
            took_s=time.monotonic() - began_s,
        )
        logger.info("%s", report)
        return report


def entries(shelf: BundleShelf) -> list[Entry]:
    """Everything on a shelf."""
    roles: tuple[tuple[Role, Iterable[LoadedBundle]], ...] = (
        ("bundle", shelf.bundles),
        ("canary", shelf.canaries),
        ("shadow", shelf.shadows),
    )
    return [Entry(*loaded.identity, role) for role, bundles in roles for loaded in bundles]


def without_paths(reason: str, folders: Iterable[Path]) -> str:
    """`reason` without the places on this machine, which no answer tells; the names of bundles and files stay.

    >>> without_paths("bundle b: /srv/bundles/b/face.onnx failed; /srv/bundles is no folder", [Path("/srv/bundles")])
    'bundle b: b/face.onnx failed; bundles is no folder'
    >>> without_paths("bundle b: card.md is missing", [Path(".")])
    'bundle b: card.md is missing'
    """
    for folder in folders:
        if len(folder.parts) < 2:  # a name, not a place
            continue
        reason = reason.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return reason
