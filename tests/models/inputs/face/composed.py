"""Scenes of two people, put together from faces of real recordings: who is where in them is known.

    python tests/models/inputs/face/composed.py ../shared/data/clips

tries every scene with every ordered pair of the seven people, and says in how many an id was wrong.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from models.inputs.face.face import FaceObservation, FaceTracker
from models.inputs.face.geometry import Roi, crop, square_around
from models.inputs.face.nets import FULL_RANGE, FaceNets, load_face_nets, search
from models.inputs.face.reading import confirm
from training.face_nets.fetch import cached_face_nets

Picture = NDArray[np.uint8]
CUT_PX, HEIGHT, WIDTH = 240, 360, 800
ROW = 180
"""Where all faces are, from the top."""
FPS = 5.0


class Person(NamedTuple):
    """A face cut out of a recording: square pictures with the head in an oval, one after the other."""

    name: str
    pictures: list[Picture]


class Standing(NamedTuple):
    """Somebody whose face is to be seen at this place of the frame."""

    name: str
    x: float


class Moment(NamedTuple):
    time_s: float
    rgb: Picture
    visible: list[Standing]


def decode(file: Path) -> Iterator[tuple[float, Picture]]:
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            yield frame.time, frame.to_ndarray(format="rgb24")


def cut_out(clips: Path, nets: FaceNets) -> list[Person]:
    """Seven people: five of one photograph, one of another, and one who moves."""

    def faces(pictures: Sequence[Picture]) -> list[list[Picture]]:
        found = [confirm(nets, pictures[0], d) for d in search(pictures[0], nets.detector_full, FULL_RANGE)]
        rois = [square_around(face.points, 0.0, 1.75) for face in found if face is not None]
        return [[crop(rgb, roi, CUT_PX) for rgb in pictures] for roi in rois]

    moving = [rgb for _, rgb in list(decode(clips / "single_face.mp4"))[::3]]
    sources = [moving, *([rgb] for name in ("single_face.jpg", "multi_face.jpg") for _, rgb in decode(clips / name))]
    return [Person(str(number), face) for number, face in enumerate(f for source in sources for f in faces(source))]


def ground() -> Picture:
    """Soft blots of colour."""
    small = np.random.default_rng(5).integers(60, 200, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
    return np.kron(small, np.ones((40, 40, 1), np.uint8))


def oval() -> NDArray[np.float64]:
    """How much of each pixel of a cut-out is shown, 0..1."""
    y, x = (np.indices((CUT_PX, CUT_PX)) + 0.5) / CUT_PX * 2 - 1
    return np.clip((1 - np.hypot(x / 0.79, y / 0.96)) * 12, 0, 1)[..., None]


def put(scene: Picture, person: Person, turn: int, x: float, size_px: int = 180) -> None:
    """Show the person there and back again through its pictures; parts beyond the edge are cut off."""
    count = len(person.pictures)
    step = turn % max(2 * count - 2, 1)
    cut = person.pictures[step if step < count else 2 * count - 2 - step]
    whole = Roi(CUT_PX / 2, CUT_PX / 2, CUT_PX)
    face = crop(cut, whole, size_px).astype(np.float64)
    shown = crop((oval() * 255).astype(np.uint8).repeat(3, axis=2), whole, size_px) / 255
    left, top = round(x - size_px / 2), round(ROW - size_px / 2)
    first, last = max(left, 0), min(left + size_px, WIDTH)
    if first < last:
        inside = np.s_[:, first - left : last - left]
        place = scene[top : top + size_px, first:last]
        place[:] = (place * (1 - shown[inside]) + face[inside] * shown[inside] + 0.5).astype(np.uint8)


def times(seconds: float) -> Iterator[tuple[int, float]]:
    return ((turn, turn / FPS) for turn in range(round(seconds * FPS)))


def crossing(front: Person, behind: Person) -> Iterator[Moment]:
    """One goes from left to right, the other, somewhat smaller, from right to left behind the first."""
    for turn, time_s in times(3.2):
        scene, gone = ground(), 560 * time_s / 3.1
        put(scene, behind, turn, 680 - gone, 160)
        put(scene, front, turn, 120 + gone)
        apart = abs(560 - 2 * gone) > 130
        yield Moment(time_s, scene, [Standing(front.name, 120 + gone), *([Standing(behind.name, 680 - gone)] * apart)])


def behind_a_bar(walking: Person, resting: Person) -> Iterator[Moment]:
    """One goes behind a bar as wide as the head, and comes out after two seconds."""
    for turn, time_s in times(4.0):
        scene, x = ground(), 80 + 420 * time_s / 3.9
        put(scene, resting, turn, 640)
        put(scene, walking, turn, x)
        scene[:, 195:385] = (60, 50, 45)
        yield Moment(
            time_s, scene, [Standing(resting.name, 640), *([Standing(walking.name, x)] * (abs(x - 290) > 170))]
        )


def leaving(restless: Person, resting: Person) -> Iterator[Moment]:
    """One is gone for three seconds, and comes back to another place."""
    for turn, time_s in times(5.4):
        scene, place = ground(), 180 if time_s < 1.2 else 330
        put(scene, resting, turn, 600)
        visible = [Standing(resting.name, 600)]
        if not 1.2 <= time_s < 4.2:
            put(scene, restless, turn, place)
            visible.append(Standing(restless.name, place))
        yield Moment(time_s, scene, visible)


def replaced(first: Person, second: Person, resting: Person | None = None) -> Iterator[Moment]:
    """From one frame to the next another face is where the first one was."""
    for turn, time_s in times(2.4):
        scene, there = ground(), first if time_s < 1.2 else second
        put(scene, there, turn, 200)
        visible = [Standing(there.name, 200)]
        if resting is not None:
            put(scene, resting, turn, 600)
            visible.append(Standing(resting.name, 600))
        yield Moment(time_s, scene, visible)


@dataclass
class Outcome:
    """What became of the ids."""

    ids: dict[str, list[int]]
    """Of each person, in order of time, where a face was seen at the person's place."""
    missed: int = 0

    @property
    def wrong(self) -> int:
        """Sightings with another id than the person's first one, or with one that was somebody else's before."""
        owners: dict[int, str] = {}
        for name, ids in self.ids.items():
            owners.setdefault(ids[0], name)
        return sum(found != ids[0] or owners[ids[0]] != name for name, ids in self.ids.items() for found in ids)


def watch(tracker: FaceTracker, moments: Iterator[Moment]) -> Outcome:
    outcome = Outcome({})
    for moment in moments:
        seen = tracker.step(moment.time_s, moment.rgb)
        for standing in moment.visible:
            observation = at(seen, standing.x)
            if observation is None:
                outcome.missed += 1
            else:
                outcome.ids.setdefault(standing.name, []).append(observation.face_id)
    return outcome


def at(seen: Sequence[FaceObservation], x: float) -> FaceObservation | None:
    """The observation whose box is around this place."""
    near = [(abs(o.box[0] + o.box[2] / 2 - x), o) for o in seen]
    off, nearest = min(near, key=lambda pair: pair[0], default=(np.inf, None))
    return nearest if off < 40 else None


SCENES: dict[str, Callable[[Person, Person], Iterator[Moment]]] = {
    "crossing": crossing,
    "behind a bar": behind_a_bar,
    "leaving and returning": leaving,
    "replaced": replaced,
}


def main(clips: Path) -> None:
    nets = load_face_nets(cached_face_nets())
    pairs = list(permutations(cut_out(clips, nets), 2))
    for name, scene in SCENES.items():
        outcomes = [watch(FaceTracker(nets, follow="all"), scene(*pair)) for pair in pairs]
        failed = [f"{a.name}-{b.name}" for (a, b), outcome in zip(pairs, outcomes, strict=True) if outcome.wrong]
        sightings = sum(len(ids) for outcome in outcomes for ids in outcome.ids.values())
        wrong = sum(outcome.wrong for outcome in outcomes)
        sys.stdout.write(
            f"{name}: {len(failed)} of {len(pairs)} failed {failed}, {wrong} of {sightings} sightings wrong\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
