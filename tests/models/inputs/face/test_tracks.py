"""Which track a face belongs to: by place, movement and looks, worked out by hand."""

import numpy as np
import pytest

from models.inputs.face.appearance import describe
from models.inputs.face.geometry import Box, Roi, crop
from models.inputs.face.quality import HeadPose
from models.inputs.face.reading import Face
from models.inputs.face.tracks import MAX_REMEMBERED, People, Sighting

POINTS = np.zeros((468, 3), np.float32)


def looks(number):
    blots = np.random.default_rng(number).integers(40, 200, (16, 16, 3), dtype=np.uint8)
    return crop(blots, Roi(8, 8, 16), 112)


def sighting(number, x, *, side=100, framed=True, yaw_deg=0.0):
    face = Face(POINTS, 0.99, Box(x, 100, side, side), Roi(x + side / 2, 100 + side / 2, 1.5 * side), framed)
    return Sighting(face, looks(number), HeadPose(yaw_deg, 0.0, 0.0), describe(looks(number)))


def see(people, time_s, *sightings, held=()):
    """One frame: the ids that the faces get."""
    owners = people.owners(time_s, sightings, held=held)
    return [people.saw(time_s, one, owner).face_id for one, owner in zip(sightings, owners, strict=True)]


@pytest.fixture
def people():
    """Number 0 moves to the right by 200 px a second, number 1 rests at 500; both were last seen at 1.6 s."""
    both = People()
    for tenth in range(0, 17, 2):
        see(both, tenth / 10, sighting(0, 20 * tenth), sighting(1, 500), held=[0, 1])
    return both


def test_faces_at_their_places_keep_their_ids(people):
    assert see(people, 1.8, sighting(1, 502), sighting(0, 360), held=[0, 1]) == [1, 0]


def test_two_who_changed_places_are_known_by_their_looks(people):
    assert see(people, 1.8, sighting(1, 360), sighting(0, 500), held=[0, 1]) == [1, 0]


def test_somebody_new_at_a_place_gets_a_new_id(people):
    assert see(people, 1.8, sighting(5, 360), sighting(1, 500), held=[0, 1]) == [2, 1]


def test_a_lost_face_whose_looks_cannot_be_told_is_expected_where_it_was_going(people):
    blurred_by_motion = {"framed": False}  # nor is it like anybody: number 5

    assert see(people, 2.4, sighting(5, 480, **blurred_by_motion), held=[]) == [0]  # 320 + 0.8 * 200


def test_after_a_second_the_place_tells_nothing_any_more(people):
    assert see(people, 2.61, sighting(5, 500, framed=False)) == [2]


def test_a_turned_head_is_known_by_its_place_alone(people):
    assert see(people, 1.8, sighting(5, 500, yaw_deg=35), held=[0, 1]) == [1]


@pytest.mark.parametrize(("side", "face_id"), [(100, 2), (70, 1)])
def test_a_face_squeezed_into_what_is_visible_of_it_is_not_taken_for_another(people, side, face_id):
    assert see(people, 1.8, sighting(5, 500, side=side), held=[0, 1]) == [face_id]


def test_such_an_excuse_holds_for_a_second(people):
    times = [1.8, 2.2, 2.6, 2.8]

    assert [see(people, t, sighting(5, 500, side=75), held=[0, 1])[0] for t in times] == [1, 1, 1, 2]


def test_the_first_look_at_a_face_is_a_guess():
    one = People()

    assert [see(one, t / 10, sighting(number, 100), held=[0])[0] for t, number in enumerate((5, 6, 6, 7))] == [
        0,
        0,  # now two looks differ: the first was a guess
        0,  # two looks agree
        1,
    ]


def test_a_guess_is_taken_back_when_it_turns_out_to_be_somebody_who_was_here(people):
    assert see(people, 10.0, sighting(5, 50, framed=False)) == [2]
    assert see(people, 10.2, sighting(0, 50), held=[2]) == [0]


def test_two_who_look_alike_and_were_seen_together_are_not_mistaken_for_each_other():
    twins = People()
    for time_s in (0.0, 0.2, 0.4):
        see(twins, time_s, sighting(0, 100), sighting(0, 500), held=[0, 1])

    assert see(twins, 0.6, sighting(0, 100), sighting(0, 500), held=[0, 1]) == [0, 1]
    assert see(twins, 0.8, sighting(0, 500), held=[0, 1]) == [1]
    assert see(twins, 1.0, sighting(0, 500), held=[1]) == [1]


def test_somebody_who_was_replaced_is_not_expected_at_the_place(people):
    people.replaced(people.tracks[-1])

    assert see(people, 1.8, sighting(5, 500, framed=False)) == [2]


def test_those_who_are_known_to_be_others_are_left_out(people):
    assert people.owners(1.8, [sighting(1, 500)], taken=[1]) == [None]


def test_those_away_for_longest_are_forgotten_first():
    crowd = People()
    for number in range(MAX_REMEMBERED + 3):
        see(crowd, number * 0.1, sighting(number, 300 * number))

    assert [track.face_id for track in crowd.tracks] == list(range(3, MAX_REMEMBERED + 3))


def test_people_are_forgotten_after_a_minute(people):
    see(people, 61.7, sighting(5, 700))

    assert [track.face_id for track in people.tracks] == [2]
