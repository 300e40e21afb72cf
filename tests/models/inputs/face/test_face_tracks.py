"""Who is who: people cross, hide, leave and are replaced in scenes that were put together from real faces."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.inputs.face.face import FaceTracker
from models.inputs.face.geometry import crop, square_around
from models.inputs.face.nets import FaceNets, load_face_nets
from models.inputs.face.reading import Face, confirm, read

from .composed import Person, behind_a_bar, crossing, cut_out, decode, leaving, put, replaced, watch

PAIRS = [(0, 1), (1, 3), (2, 5), (4, 0), (5, 2), (6, 4)]
PICTURE = np.full((360, 800, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def nets(face_nets_folder: Path) -> FaceNets:
    return load_face_nets(face_nets_folder)


@pytest.fixture(scope="module")
def people(clips: Path, nets: FaceNets) -> list[Person]:
    found = cut_out(clips, nets)
    assert len(found) == 7
    return found


@pytest.fixture(params=PAIRS, ids=str)
def pair(request: pytest.FixtureRequest, people: list[Person]) -> tuple[Person, Person]:
    first, second = request.param
    return people[first], people[second]


def test_two_who_cross_keep_their_ids(nets: FaceNets, pair: tuple[Person, Person]) -> None:
    outcome = watch(FaceTracker(nets, follow="all"), crossing(*pair))

    assert (outcome.wrong, outcome.missed) == (0, 0)
    assert sorted(ids[0] for ids in outcome.ids.values()) == [0, 1]


def test_one_who_walks_behind_a_bar_keeps_its_id(nets: FaceNets, pair: tuple[Person, Person]) -> None:
    outcome = watch(FaceTracker(nets, follow="all"), behind_a_bar(*pair))

    assert outcome.wrong == 0
    assert min(map(len, outcome.ids.values())) >= 4  # before the bar and behind it


def test_one_who_comes_back_after_three_seconds_gets_its_id_back(nets: FaceNets, pair: tuple[Person, Person]) -> None:
    outcome = watch(FaceTracker(nets, follow="all"), leaving(*pair))

    assert outcome.wrong == 0
    assert len(outcome.ids[pair[0].name]) >= 10  # six frames before, six after, of which two until it is noticed


@pytest.mark.parametrize("follow", ["largest", "all"])
def test_another_face_at_the_same_place_gets_another_id(
    nets: FaceNets, pair: tuple[Person, Person], follow: str
) -> None:
    outcome = watch(FaceTracker(nets, follow=follow), replaced(*pair))

    assert (outcome.wrong, outcome.missed) == (0, 0)
    assert outcome.ids == {pair[0].name: [0] * 6, pair[1].name: [1] * 6}


def test_largest_gives_one_who_was_away_its_id_back(nets: FaceNets, people: list[Person]) -> None:
    tracker, shown = FaceTracker(nets), [1, 1, 1, 1, None, 3, 3, 3, None, None, 1, 1]
    ids = []
    for turn, number in enumerate(shown):
        scene = PICTURE.copy()
        if number is not None:
            put(scene, people[number], 0, 150 + 40 * turn)
        ids.append([seen.face_id for seen in tracker.step(0.7 * turn, scene)])

    assert ids == [[0]] * 4 + [[]] + [[1]] * 3 + [[], []] + [[0]] * 2


def test_of_many_faces_the_largest_are_followed_and_the_largest_comes_first(
    nets: FaceNets, people: list[Person]
) -> None:
    scene = PICTURE.copy()
    for person, x, size_px in zip(people, (90, 250, 400, 540, 660), (190, 150, 170, 130, 110), strict=False):
        put(scene, person, 0, x, size_px)

    all_five, three = (FaceTracker(nets, follow="all", max_faces=n).step(0.0, scene) for n in (8, 3))

    assert [round(one.box[0] + one.box[2] / 2, -1) for one in three] == pytest.approx([90, 400, 250], abs=20)
    assert [one.face_id for one in all_five] == [0, 1, 2, 3, 4]
    areas = [one.box[2] * one.box[3] for one in all_five]
    assert areas == sorted(areas, reverse=True)


def test_a_followed_face_gives_way_only_to_one_half_as_large_again(nets: FaceNets, people: list[Person]) -> None:
    def scene(*sizes: int) -> np.ndarray:
        rgb = PICTURE.copy()
        for person, size_px, x in zip(people, sizes, (130, 400, 650), strict=False):
            put(rgb, person, 0, x, size_px)
        return rgb

    tracker = FaceTracker(nets, follow="all", max_faces=2)
    steps = [scene(200, 150), scene(200, 150), scene(200, 150, 145), scene(200, 150, 145), scene(200, 150, 230)]

    places = [sorted(round(one.box[0] / 100) for one in tracker.step(0.6 * t, rgb)) for t, rgb in enumerate(steps)]

    assert len(set(map(tuple, places[:4]))) == 1  # somewhat larger is not enough
    assert len(places[4]) == 2
    assert places[4][-1] > places[3][-1]


def test_all_five_of_a_photograph_are_seen_however_near_the_first_ones_are(nets: FaceNets, clips: Path) -> None:
    ((_, rgb),) = decode(clips / "multi_face.jpg")

    assert len(nets.detect(rgb)) == 2
    assert len(FaceTracker(nets, follow="all").step(0.0, rgb)) == 5


class Counted:
    """The nets, and how often each was asked."""

    def __init__(self, nets: FaceNets) -> None:
        self.calls: Counter[str] = Counter()
        self.nets = FaceNets(
            *(self.counted(name, getattr(nets, name)) for name in ("detector_short", "detector_full", "landmark_net"))
        )

    def counted(self, name: str, net: Callable) -> Callable:
        def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.calls[name] += 1
            return net(image)

        return run


def alone(nets: FaceNets, clip: list[tuple[float, np.ndarray]]) -> list[np.ndarray]:
    """The crops of a clip's only face, by the nets alone: found in the first frame, then read where it was."""
    face: Face | None = None
    crops = []
    for _, rgb in clip:
        face = confirm(nets, rgb, nets.detect(rgb)[0]) if face is None else read(nets, rgb, face.roi)
        assert face is not None
        crops.append(crop(rgb, square_around(face.points, face.roi.angle_rad, 1.3), 112))
    return crops


@pytest.mark.parametrize("follow", ["largest", "all"])
def test_one_faces_crops_are_those_of_the_nets_alone(nets: FaceNets, clips: Path, follow: str) -> None:
    clip = list(decode(clips / "single_face.mp4"))[::3]

    tracker = FaceTracker(nets, follow=follow)

    for (time_s, rgb), expected in zip(clip, alone(nets, clip), strict=True):
        (one,) = tracker.step(time_s, rgb)
        assert np.array_equal(one.crop, expected)


def test_one_face_costs_no_more_calls_than_before_there_were_identities(nets: FaceNets, clips: Path) -> None:
    """Counted with the tracker that knew nobody: every 6th of 72 frames."""
    counted = Counted(nets)
    tracker = FaceTracker(counted.nets)

    for time_s, rgb in list(decode(clips / "single_face.mp4"))[::6]:
        tracker.step(time_s, rgb)

    assert counted.calls == {"detector_short": 4, "landmark_net": 12}


def test_a_replaced_face_costs_one_search_more(nets: FaceNets, people: list[Person]) -> None:
    counted = Counted(nets)
    tracker, per_frame = FaceTracker(counted.nets), []
    for moment in replaced(people[1], people[3]):
        counted.calls.clear()
        tracker.step(moment.time_s, moment.rgb)
        per_frame.append((counted.calls["detector_short"], counted.calls["landmark_net"]))

    assert max(detections for detections, _ in per_frame) == 1
    assert max(readings for _, readings in per_frame) <= 4  # two at its place and two at the found one, as for any loss
