"""The detectors' arithmetic with nets that answer what the test says, then the real nets on real pictures."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from models.inputs.face.geometry import Roi, crop, overlap
from models.inputs.face.nets import FULL_RANGE, SHORT_RANGE, FaceNets, load_face_nets, search
from training.face_nets.fetch import FaceNetsMissingError, cached_face_nets

ROOT = Path(__file__).resolve().parents[4]
CLIPS = ROOT.parent / "shared" / "data" / "clips"


def answer(size, anchors, candidates):
    """What a detector says: `candidates` maps an anchor to (dx, dy, w, h, logit), in pixels of its square."""
    boxes, scores = np.zeros((1, anchors, 16), np.float32), np.full((1, anchors, 1), -200, np.float32)
    for anchor, (dx, dy, w, h, logit) in candidates.items():
        boxes[0, anchor, :4], scores[0, anchor, 0] = (dx, dy, w, h), logit

    def run(image):
        assert image.shape == (1, size, size, 3)
        assert image.dtype == np.float32
        return boxes, scores

    return run


def nets_that_answer(short, full):
    return FaceNets(answer(128, 896, short), answer(192, 2304, full), lambda image: (image, image))


def test_anchors_are_the_middles_of_the_grids_cells():
    assert SHORT_RANGE.anchors.shape == (896, 2)
    assert FULL_RANGE.anchors.shape == (2304, 2)
    assert SHORT_RANGE.anchors[[0, 1, 2, 32]].tolist() == [
        [1 / 32] * 2,
        [1 / 32] * 2,
        [3 / 32, 1 / 32],
        [1 / 32, 3 / 32],
    ]
    assert SHORT_RANGE.anchors[[512, 517, 518]].tolist() == [[1 / 16] * 2, [1 / 16] * 2, [3 / 16, 1 / 16]]
    assert FULL_RANGE.anchors[[0, 1, 2303]] == pytest.approx(np.array([[1, 1], [3, 1], [95, 95]]) / 96)


def test_a_candidate_is_placed_in_the_picture_behind_the_bars():
    # 640 x 320 in a square of 128: five pixels of the picture a pixel, bars of 160 above and below.
    # Anchor 512 + 6 * (4 * 8 + 2) is the cell at column 2, row 4 of the 8 x 8 grid: its middle is (40, 72).
    nets = nets_that_answer({512 + 6 * 34: (4, -8, 20, 10, 0.0)}, {})

    (face,) = nets.detect(np.zeros((320, 640, 3), np.uint8))

    assert face.box == pytest.approx((44 * 5 - 50, 64 * 5 - 160 - 25, 100, 50))
    assert face.score == pytest.approx(0.5)
    assert face.keypoints == pytest.approx(np.tile([40 * 5, 72 * 5 - 160], (6, 1)))


def test_candidates_of_one_face_are_merged_by_their_scores():
    nets = nets_that_answer({0: (0, 0, 20, 20, 200.0), 1: (3, 0, 20, 20, 0.0), 511: (0, 0, 9, 9, 1.0)}, {})

    best, other = nets.detect(np.zeros((128, 128, 3), np.uint8))

    assert (best.score, best.box.x) == pytest.approx((1.0, 4 - 10 + 3 * 0.5 / 1.5))
    assert other.box == pytest.approx((124 - 4.5, 124 - 4.5, 9, 9))


def test_the_full_range_net_is_asked_only_where_the_short_range_net_finds_nothing():
    picture = np.zeros((192, 192, 3), np.uint8)

    assert len(nets_that_answer({}, {0: (0, 0, 20, 20, 3.0)}).detect(picture)) == 1
    assert (
        len(nets_that_answer({0: (0, 0, 9, 9, 3.0)}, {0: (0, 0, 9, 9, 3.0), 2303: (0, 0, 9, 9, 3.0)}).detect(picture))
        == 1
    )
    assert nets_that_answer({0: (0, 0, 9, 9, -0.1)}, {0: (0, 0, 9, 9, 0.3)}).detect(picture) == []  # 0.47 and 0.57


def test_both_nets_are_asked_for_all_faces_and_one_that_both_see_is_one():
    # Both see a face in the middle, the far net's box is smaller; only the far net sees the one in the corner.
    near = {512 + 6 * 36: (-8, -8, 40, 40, 3.0)}  # column 4, row 4: the middle is (72, 72) of 128, 108 of 192
    far = {27 * 48 + 27: (-14, -14, 36, 36, 3.0), 2 * 48 + 2: (0, 0, 12, 12, 3.0)}  # middles (110, 110) and (10, 10)

    both, corner = nets_that_answer(near, far).detect_all(np.zeros((192, 192, 3), np.uint8))

    assert both.box == pytest.approx((66, 66, 60, 60))  # (72 - 8 - 20) * 1.5
    assert corner.box == pytest.approx((4, 4, 12, 12))


def test_a_box_turned_inside_out_is_no_face():
    assert nets_that_answer({0: (0, 0, -20, 20, 9.0)}, {}).detect(np.zeros((64, 64, 3), np.uint8)) == []


def test_the_detector_sees_the_picture_between_black_bars():
    seen = []

    def record(image):
        seen.append(image[0])
        return answer(128, 896, {})(image)

    search(np.full((50, 100, 3), 255, np.uint8), record, SHORT_RANGE)

    assert (seen[0][:32] == -1).all()
    assert (seen[0][32:96] == 1).all()
    assert (seen[0][96:] == -1).all()


@pytest.fixture(scope="module")
def nets():
    try:
        return load_face_nets(cached_face_nets())
    except FaceNetsMissingError as missing:
        pytest.skip(str(missing))


def picture(name):
    if not (CLIPS / name).is_file():
        pytest.skip(f"{name} of the shared test data is not here")
    with av.open(str(CLIPS / name)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_every_face_of_a_group_is_found_by_the_full_range_net(nets):
    rgb = picture("multi_face.jpg")  # five people

    faces = search(rgb, nets.detector_full, FULL_RANGE)

    assert len(faces) == 5
    assert min(face.score for face in faces) > 0.75


def test_points_lie_where_the_detector_sees_eyes_nose_and_mouth(nets):
    rgb = picture("single_face.jpg")
    (face,) = nets.detect(rgb)
    x, y, w, h = face.box

    points, presence = nets.landmarks(rgb, Roi(x + w / 2, y + h / 2, 1.5 * w))

    assert presence > 0.99
    assert points.shape == (468, 3)
    eyes_nose_mouth = [points[i, :2].mean(axis=0) for i in ([33, 133], [263, 362], [1], [13, 14])]
    assert np.abs(face.keypoints[:4] - eyes_nose_mouth).max() < 0.08 * w


def test_the_points_of_a_turned_square_are_those_of_an_upright_one(nets):
    rgb = picture("single_face.jpg")
    upright, _ = nets.landmarks(rgb, Roi(282, 284, 330))
    turned, presence = nets.landmarks(rgb, Roi(282, 284, 330, 0.15))

    assert presence > 0.99
    assert np.linalg.norm(upright[:, :2] - turned[:, :2], axis=1).mean() < 0.02 * 330


def test_a_mirrored_picture_gives_mirrored_faces(nets):
    rgb = picture("single_face.jpg")
    (face,), (mirrored,) = nets.detect(rgb), nets.detect(rgb[:, ::-1])
    back = mirrored.box._replace(x=rgb.shape[1] - mirrored.box.x - mirrored.box.w)

    assert overlap(face.box, back) > 0.9


def test_no_face_is_seen_in_a_square_without_one(nets):
    _, presence = nets.landmarks(picture("single_face.jpg"), Roi(60, 60, 110))

    assert presence < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (9, 16), (16, 9), (333, 517), (3000, 4000)])
@pytest.mark.parametrize("colour", [0, 255])
def test_a_plain_picture_of_any_size_has_no_face(nets, shape, colour):
    assert nets.detect(np.full((*shape, 3), colour, np.uint8)) == []


def test_a_face_in_a_large_picture_is_found_at_its_place(nets):
    rgb = picture("single_face.jpg")
    (small,) = nets.detect(rgb)
    (large,) = nets.detect(crop(rgb, Roi(286, 281, 562), 2810))  # five times as large, from (5, 0) on

    scaled = small.box._replace(x=(small.box.x - 5) * 5, y=small.box.y * 5, w=small.box.w * 5, h=small.box.h * 5)
    assert overlap(large.box, scaled) > 0.9


def test_threads_share_the_nets(nets):
    rgb = picture("single_face.jpg")
    roi = Roi(282, 284, 330)
    expected = nets.landmarks(rgb, roi)[0]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: nets.landmarks(rgb, roi)[0], range(12)))

    assert all(np.array_equal(points, expected) for points in results)


def test_a_folder_without_the_nets_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detector_short\.onnx"):
        load_face_nets(tmp_path)


def test_importing_the_face_code_loads_neither_torch_nor_the_runtime():
    heavy = "('torch', 'onnxruntime', 'training')"
    code = f"import sys, models.inputs.face.face; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout.strip() == "[]"
