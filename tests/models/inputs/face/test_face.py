"""Which face is followed: first in staged scenes, where nets see what the test put there, then in real clips."""

from pathlib import Path

import av
import numpy as np
import pytest

from models.inputs.face.face import FaceTracker
from models.inputs.face.geometry import Box, Roi, crop
from models.inputs.face.nets import Detection, load_face_nets
from training.face_nets.fetch import FaceNetsMissingError, cached_face_nets

CLIPS = Path(__file__).resolve().parents[5] / "shared" / "data" / "clips"


def pattern(number):
    """What a face looks like, uint8 (96, 96, 3): another for each number."""
    blots = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.kron(blots, np.ones((12, 12, 1), np.uint8))


class Scene:
    """Stands in for the nets: the faces are squares (x, y, side) that the test moves about.

    Each looks like its number in `who`: one after the other, unless the test says otherwise.
    """

    def __init__(self, *faces, who=range(9)):
        self.faces = list(faces)
        self.who = list(who)
        self.present = 0.99
        self.detections = 0
        self.shifted_mouth_px = 0.0

    def picture(self):
        rgb = np.zeros((400, 600, 3), np.uint8)
        for (x, y, side), number in zip(self.faces, self.who, strict=False):
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, 600), min(y + side, 400)
            face = crop(pattern(number), Roi(48, 48, 96), side)
            rgb[top:bottom, left:right] = face[top - y : bottom - y, left - x : right - x]
        return rgb

    def detect(self, _rgb):
        self.detections += 1
        return [self.detection(*face) for face in self.faces]

    detect_all = detect

    def detection(self, x, y, side):
        keypoints = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.5, 0.8], [0.05, 0.5], [0.95, 0.5]]) * side + [x, y]
        keypoints[3] += self.shifted_mouth_px
        return Detection(Box(x, y, side, side), 0.9, keypoints.astype(np.float32))

    def landmarks(self, _rgb, roi):
        """A face is seen in a square that holds its middle and is of its order of size."""
        for x, y, side in self.faces:
            middle = np.array([x + side / 2, y + side / 2])
            off = np.abs(middle - [roi.center_x, roi.center_y]).max()
            if off < roi.size / 3 and 0.5 < roi.size / side < 3:
                points = np.tile(middle, (468, 1))
                points[[0, 2]] = [[x, y], [x + side, y + side]]
                points[[10, 152, 234, 454]] = middle + np.array([[0, -0.5], [0, 0.5], [-0.5, 0], [0.5, 0]]) * side
                points[[33, 263]] = middle + np.array([[-0.2, -0.1], [0.2, -0.1]]) * side
                points[[1, 13, 14]] = middle + np.array([[0, 0.1], [0, 0.3], [0, 0.3]]) * side
                return np.pad(points, ((0, 0), (0, 1))).astype(np.float32), self.present
        return np.zeros((468, 3), np.float32), 0.01


def follow(tracker, scene, times):
    """Of each frame the face that is seen, if any: its id and its place."""
    frames = [tracker.step(time_s, scene.picture()) for time_s in times]
    return [(seen[0].face_id, *seen[0].box[:2]) if seen else None for seen in frames]


def test_the_largest_face_is_followed():
    scene = Scene((10, 10, 80), (300, 100, 120), (450, 300, 60))

    assert follow(FaceTracker(scene), scene, [0, 0.04]) == [(0, 300, 100)] * 2


def test_a_followed_face_is_detected_again_only_every_half_second():
    scene = Scene((300, 100, 120))

    follow(FaceTracker(scene), scene, [0, 0.2, 0.4, 0.7, 0.9, 1.1, 1.2])  # 1.2 - 0.7 is below 0.5 in binary

    assert scene.detections == 3


@pytest.mark.parametrize(("who", "face_id"), [(0, 0), (7, 1)])
def test_a_face_that_jumps_out_of_its_square_is_found_in_the_same_frame_and_known_by_its_looks(who, face_id):
    scene = Scene((300, 100, 100))
    tracker = FaceTracker(scene)
    tracker.step(0.0, scene.picture())
    scene.faces, scene.who = [(20, 250, 100)], [who]

    assert follow(tracker, scene, [0.1]) == [(face_id, 20, 250)]


def test_a_face_keeps_its_id_when_it_comes_back_at_once_to_its_place():
    scene = Scene((300, 100, 100))
    tracker = FaceTracker(scene)
    tracker.step(0.0, scene.picture())
    scene.faces = []
    missed = follow(tracker, scene, [0.4, 0.8])
    scene.faces = [(330, 110, 100), (10, 10, 250)]

    assert missed == [None, None]
    assert follow(tracker, scene, [1.0]) == [(0, 330, 110)]


@pytest.mark.parametrize(("back_s", "who", "face_id"), [(1.5, 0, 0), (59.9, 0, 0), (60.5, 0, 1), (1.5, 7, 1)])
def test_a_face_that_comes_back_within_a_minute_is_known_by_its_looks_alone(back_s, who, face_id):
    scene = Scene((300, 100, 100))
    tracker = FaceTracker(scene)
    tracker.step(0.0, scene.picture())
    scene.faces = []
    tracker.step(0.3, scene.picture())
    scene.faces, scene.who = [(420, 200, 100)], [who]

    assert follow(tracker, scene, [back_s]) == [(face_id, 420, 200)]


def test_another_face_at_the_place_of_the_followed_one_gets_another_id_at_once():
    scene = Scene((300, 100, 100))
    tracker = FaceTracker(scene)
    before = follow(tracker, scene, [0.0, 0.2, 0.4])
    scene.who = [7]

    assert [one[0] for one in before + follow(tracker, scene, [0.6, 0.8])] == [0, 0, 0, 1, 1]


def test_a_face_half_as_large_again_takes_over_after_a_second():
    scene = Scene((10, 10, 100))
    tracker = FaceTracker(scene)
    tracker.step(0.0, scene.picture())
    scene.faces.append((300, 100, 123))  # 1.51 times the area

    ids = [seen[0] for seen in follow(tracker, scene, [0.5, 1.0, 1.4, 1.5, 2.0])]

    assert ids == [0, 0, 0, 1, 1]


def test_a_face_that_takes_over_a_second_time_has_its_first_id():
    scene = Scene((10, 10, 100), (300, 100, 150))
    tracker = FaceTracker(scene)
    ids = [seen[0] for seen in follow(tracker, scene, [0.0, 0.5])]
    for start, sides in ((1.0, (200, 100)), (3.0, (100, 150))):
        scene.faces = [(10, 10, sides[0]), (300, 100, sides[1])]
        ids += [seen[0] for seen in follow(tracker, scene, [start, start + 0.5, start + 1.0, start + 1.5])]

    assert (ids[0], ids[5], ids[-1]) == (0, 1, 0)


def test_a_face_that_is_only_a_little_larger_never_takes_over():
    scene = Scene((10, 10, 100))
    tracker = FaceTracker(scene)
    tracker.step(0.0, scene.picture())
    scene.faces.append((300, 100, 121))  # 1.46 times the area

    assert {seen[0] for seen in follow(tracker, scene, np.arange(1, 10) / 2)} == {0}


def test_a_larger_face_must_be_larger_at_every_detection():
    scene = Scene((10, 10, 100))
    tracker = FaceTracker(scene)
    ids = []
    for half_seconds in range(12):
        scene.faces[1:] = [(300, 100, 200)] if half_seconds % 3 else []
        ids += [seen[0] for seen in follow(tracker, scene, [half_seconds / 2])]

    assert set(ids) == {0}


def test_a_detection_without_a_face_for_the_landmark_net_is_ignored():
    scene = Scene((300, 100, 120))
    scene.present = 0.49

    assert follow(FaceTracker(scene), scene, [0, 0.5]) == [None, None]


@pytest.mark.parametrize("way", ["largest", "all"])
def test_a_detection_whose_mouth_is_elsewhere_is_ignored(way):
    scene = Scene((300, 100, 120))
    scene.shifted_mouth_px = 0.25 * 120  # along both axes: 0.35 of the box

    assert follow(FaceTracker(scene, follow=way), scene, [0]) == [None]


def test_a_smaller_face_is_taken_where_the_largest_is_none():
    scene = Scene((10, 10, 80))
    large = scene.detection(300, 100, 200)
    scene.detect = lambda _: [large, scene.detection(10, 10, 80)]

    assert follow(FaceTracker(scene), scene, [0]) == [(0, 10, 10)]


def test_a_face_of_a_few_pixels_is_none():
    scene = Scene((100, 100, 11))

    assert follow(FaceTracker(scene), scene, [0]) == [None]


@pytest.mark.parametrize(
    ("face", "box"),
    [
        ((-30, 320, 100), (0, 320, 70, 80)),
        ((540, -20, 100), (540, 0, 60, 80)),
        ((300, 100, 100), (300, 100, 100, 100)),
    ],
)
def test_the_box_is_whole_pixels_inside_the_picture(face, box):
    scene = Scene(face)

    (seen,) = FaceTracker(scene).step(0, scene.picture())

    assert seen.box == box
    assert [type(value) for value in seen.box] == [int] * 4


def test_all_faces_are_seen_the_largest_first_and_numbered_as_they_appear():
    scene = Scene((10, 10, 80), (300, 100, 120), who=[3, 4])
    tracker = FaceTracker(scene, follow="all")
    first = tracker.step(0.0, scene.picture())
    scene.faces.append((450, 230, 160))
    scene.who.append(5)
    second = tracker.step(0.5, scene.picture())

    assert [(one.face_id, one.box[2]) for one in first] == [(0, 120), (1, 80)]
    assert [(one.face_id, one.box[2]) for one in second] == [(2, 150), (0, 120), (1, 80)]  # ten pixels are outside


def test_a_second_face_is_looked_for_every_half_second_while_the_first_ones_are_followed():
    scene = Scene((10, 10, 80))
    tracker = FaceTracker(scene, follow="all")
    tracker.step(0.0, scene.picture())
    scene.faces.append((300, 100, 120))

    assert [len(tracker.step(time_s, scene.picture())) for time_s in (0.2, 0.4, 0.5)] == [1, 1, 2]


def test_a_face_that_is_missed_is_looked_for_in_every_frame_of_the_next_second():
    scene = Scene((10, 10, 80), (300, 100, 120))
    tracker = FaceTracker(scene, follow="all")
    tracker.step(0.0, scene.picture())
    scene.faces = [(10, 10, 80)]
    follow(tracker, scene, [0.1, 0.2, 0.3])
    searched = scene.detections
    scene.faces.append((300, 100, 120))

    assert searched == 4
    assert sorted(one.face_id for one in tracker.step(0.4, scene.picture())) == [0, 1]


def test_no_more_faces_are_seen_than_are_asked_for():
    scene = Scene(*((70 * column, 100 * row, 40 + column + 8 * row) for row in range(4) for column in range(8)))
    scene.who = list(range(32))

    seen = FaceTracker(scene, follow="all", max_faces=5).step(0.0, scene.picture())

    assert [one.box[2] for one in seen] == [71, 70, 69, 68, 67]


def test_a_tracker_for_no_faces_is_refused():
    with pytest.raises(ValueError, match="max_faces must be at least 1, got 0"):
        FaceTracker(Scene(), follow="all", max_faces=0)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_a_frame_of_another_kind_is_refused(frame):
    with pytest.raises(ValueError, match=r"a frame must be uint8 \(H, W, 3\)"):
        FaceTracker(Scene()).step(0, frame)


@pytest.fixture(scope="module")
def nets():
    try:
        return load_face_nets(cached_face_nets())
    except FaceNetsMissingError as missing:
        pytest.skip(str(missing))


def frames(name, every_s=0.2):
    """Frames of a shared clip as (time, picture), about `every_s` apart."""
    if not (CLIPS / name).is_file():
        pytest.skip(f"{name} of the shared test data is not here")
    next_s, taken = 0.0, []
    with av.open(str(CLIPS / name)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= next_s:
                taken.append((frame.time, frame.to_ndarray(format="rgb24")))
                next_s = frame.time + every_s - 1e-3
    return taken


def observe(nets, clip, **settings):
    """Of each frame the face that is seen, or None."""
    tracker = FaceTracker(nets, **settings)
    return [next(iter(tracker.step(time_s, rgb)), None) for time_s, rgb in clip]


@pytest.mark.parametrize("every_s", [0.04, 0.2, 0.5, 1.0])
def test_one_face_is_seen_in_every_frame_at_any_spacing(nets, every_s):
    seen = observe(nets, frames("single_face.mp4", every_s))

    assert {one and one.face_id for one in seen} == {0}
    assert min(one.score for one in seen) > 0.9


def test_nobody_is_seen_where_nobody_is(nets):
    assert set(observe(nets, frames("no_face.mp4", 0.04))) == {None}


def test_a_face_is_lost_when_it_leaves_and_not_before(nets):
    clip = frames("face_noface.mov", 0.1)  # the face is there for the first 2.4 s

    assert [one is not None for one in observe(nets, clip)] == [time_s < 2.4 for time_s, _ in clip]


def test_the_crop_shows_the_whole_face_upright(nets):
    ((_, rgb),) = frames("single_face.jpg")
    tilted = crop(rgb, Roi(286, 281, 560, -0.6), 560)  # the head tilts clockwise by 34 degrees

    straight, turned = (FaceTracker(nets, size_px=160).step(0, picture)[0] for picture in (rgb, tilted))

    assert turned.crop.shape == (160, 160, 3)
    assert turned.roll_deg - straight.roll_deg == pytest.approx(np.degrees(0.6), abs=2)
    for shown in (straight.crop, turned.crop):
        (face,) = nets.detect(shown)
        (left_x, left_y), (right_x, right_y), _, (_, mouth_y) = face.keypoints[:4] / len(shown)
        assert left_y == pytest.approx(right_y, abs=0.04)
        assert max(left_y, right_y) < 0.5 < mouth_y < 0.95
        assert left_x < 0.5 < right_x


def test_a_mirrored_face_looks_the_other_way(nets):
    ((_, rgb),) = frames("single_face.jpg")

    one, other = (FaceTracker(nets).step(0, picture)[0] for picture in (rgb, rgb[:, ::-1]))

    assert one.yaw_deg < -4
    assert (other.yaw_deg, other.pitch_deg, other.roll_deg) == pytest.approx(
        (-one.yaw_deg, one.pitch_deg, -one.roll_deg), abs=3
    )


def test_a_small_face_is_more_blurred_than_a_large_one(nets):
    ((_, rgb),) = frames("single_face.jpg")

    large, small = (FaceTracker(nets).step(0, picture)[0] for picture in (rgb, crop(rgb, Roi(286, 281, 562), 94)))

    assert 0 < large.blur < 0.5 < small.blur < 1


def test_a_face_that_moved_between_frames_is_read_as_well_as_one_that_did_not(nets):
    ((_, rgb),) = frames("single_face.jpg")
    tracker, moved = FaceTracker(nets), np.roll(rgb, (70, -40), axis=(0, 1))  # a third and a fifth of the face

    tracker.step(0.0, rgb)
    (at_once,) = tracker.step(0.2, moved)
    *_, (settled,) = (tracker.step(time_s, moved) for time_s in (0.24, 0.28))

    assert at_once.face_id == 0
    assert np.abs(np.subtract(at_once.box, settled.box)).max() <= 0.02 * settled.box[3]


def test_of_two_people_the_nearer_one_is_followed_until_the_other_comes_nearer_for_a_second(nets):
    ((_, rgb),) = frames("single_face.jpg")
    near, mid, far = (crop(rgb, Roi(286, 281, 540), size) for size in (390, 250, 180))
    first, later = np.full((2, 400, 680, 3), 90, np.uint8)
    first[:250, :250], first[:180, 400:580] = mid, far
    later[:250, :250], later[:390, 280:670] = mid, near

    seen = observe(nets, [(half_seconds / 2, first if half_seconds < 3 else later) for half_seconds in range(8)])

    assert [(one.face_id, one.box[0] < 250) for one in seen] == [(0, True)] * 5 + [(1, False)] * 3


@pytest.mark.parametrize("shape", [(1, 1), (9, 16), (31, 2), (203, 155)])
def test_noise_of_any_size_is_stepped_over(nets, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)

    assert observe(nets, [(0.0, noise), (0.5, noise)]) == [None, None]
