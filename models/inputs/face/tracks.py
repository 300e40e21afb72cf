"""The people of one clip: which of them is the face that is seen now.

A face is one that was seen before if it is where that one was, or would be had it moved on, and looks like it as far
as it can be seen; or, wherever it is, if it clearly looks like it. All faces of a frame are decided together.
"""

import math
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from models.inputs.face.appearance import Appearance, likeness, likeness_of_parts, refreshed
from models.inputs.face.assignment import assign
from models.inputs.face.geometry import Box, Picture, overlap
from models.inputs.face.quality import HeadPose
from models.inputs.face.reading import Face

NEAR_OVERLAP: Final = 0.3
FORGET_PLACE_S: Final = 1.0
"""So long the place where a face was last seen, or would be by now, tells who is there."""
FORGET_LOOKS_S: Final = 60.0
MAX_REMEMBERED: Final = 64
LIKE_IN_PARTS: Final = 0.85
"""At its place a face changes less from frame to frame, where it is visible; one pair of people in thirty does not."""
CLEARLY_LIKE: Final = 0.82
"""More than any pair of people measured; see `likeness`."""
NOTHING_NEW: Final = 0.9
MAX_LOOKS: Final = 8
TURNED_DEG: Final = 20.0
"""A head that turned by more looks different; then its place alone must tell."""
YOUNG_S: Final = 1.0
DOUBT: Final = 0.4
"""Lessens what a guess scores: at its place a track of less than a second, there or elsewhere one of which only the
place or only the looks speak for it. A face goes first to whoever was away and is clearly like it."""
MAX_GROWTH: Final = 1.25
"""A face of another size than a moment ago is squeezed into what is visible of it."""
CROP_MARGIN: Final = 1.3
"""Side of the crop over the longer extent of the points, which reach from the hairline to the chin."""
MAX_STEP_S: Final = 0.5  # a movement over more time says little of the next
TIME_TOLERANCE_S: Final = 1e-6


class Sighting(NamedTuple):
    """A face in the present frame, before it is known whose it is."""

    face: Face
    crop: Picture
    pose: HeadPose
    appearance: Appearance


class Track(NamedTuple):
    """One person, as seen last."""

    face_id: int
    face: Face
    pose: HeadPose
    latest: Appearance
    looks: tuple[Appearance, ...]
    """How it looked at other times, as far as that differed."""
    side: float
    """The longer side of its box in pixels, when its looks last agreed."""
    first_s: float
    seen_s: float
    agreed_s: float
    known: bool = False
    """Whether two looks at it agreed; until then they are a guess."""
    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels a second, to the right and down."""
    replaced: bool = False
    """Whether somebody else was seen at its place since."""

    def nearness(self, time_s: float, box: Box, *, held: bool) -> float:
        """0..1: the overlap with where it was or with where it would be now; 0 once its place is forgotten."""
        gap_s = time_s - self.seen_s
        if self.replaced or (not held and over(gap_s, FORGET_PLACE_S)):
            return 0.0
        was = self.face.box
        would_be = was._replace(x=was.x + self.velocity[0] * gap_s, y=was.y + self.velocity[1] * gap_s)
        return max(overlap(was, box), overlap(would_be, box))

    def score(self, time_s: float, sighting: Sighting, *, held: bool, alone: bool) -> float:
        """How well the two go together: 2 to 3 at the track's place, up to 1 elsewhere, 0 where they cannot be one.

        `held`: the track was seen in the frame before, however long ago that was. `alone`: no other face is in the way.
        """
        like, near = self.likeness(sighting), self.nearness(time_s, sighting.face.box, held=held)
        clearly, fit = like >= CLEARLY_LIKE, (near + max(like, 0.0)) / 2
        excused = clearly or not self.known or self.expected(time_s, sighting, held=held, alone=alone)
        at_place = near >= NEAR_OVERLAP and excused
        if at_place and (clearly or held) and over(time_s - self.first_s, YOUNG_S):
            return 2 + fit
        if at_place and (held or not clearly):
            return DOUBT * (held + fit)
        if clearly:
            return DOUBT * like if held else like
        return 0.0

    def expected(self, time_s: float, sighting: Sighting, *, held: bool, alone: bool) -> bool:
        """Whether nothing that is seen speaks against its being the one whose place it is."""
        if (held and self.turned(sighting)) or self.likeness_of_parts(sighting) >= LIKE_IN_PARTS:
            return True
        grown = longer_side(sighting.face.box) / self.side
        clear_view = alone and sighting.face.framed and 1 / MAX_GROWTH <= grown <= MAX_GROWTH
        return not clear_view and not over(time_s - self.agreed_s, FORGET_PLACE_S)

    def likeness(self, sighting: Sighting) -> float:
        return max(likeness(look, sighting.appearance) for look in (self.latest, *self.looks))

    def likeness_of_parts(self, sighting: Sighting) -> float:
        return max(likeness_of_parts(look, sighting.appearance) for look in (self.latest, *self.looks))

    def turned(self, sighting: Sighting) -> bool:
        yaw, pitch = sighting.pose.yaw_deg - self.pose.yaw_deg, sighting.pose.pitch_deg - self.pose.pitch_deg
        return max(abs(yaw), abs(pitch)) > TURNED_DEG

    def after(self, time_s: float, sighting: Sighting) -> "Track":
        """The track, once this face is known to be its own."""
        velocity = self.velocity_to(time_s, sighting.face.box)
        track = self._replace(face=sighting.face, seen_s=time_s, velocity=velocity, replaced=False)
        like, seen = self.likeness(sighting), sighting.appearance
        agreed = like >= CLEARLY_LIKE or self.likeness_of_parts(sighting) >= LIKE_IN_PARTS
        if agreed or self.turned(sighting):
            looks = (*self.looks, seen) if like < NOTHING_NEW and len(self.looks) < MAX_LOOKS else self.looks
            latest = refreshed(self.latest, seen) if agreed else seen
        elif not self.known:
            looks, latest = (seen,), seen
        else:
            return track
        known, side = self.known or agreed, longer_side(sighting.face.box)
        return track._replace(latest=latest, looks=looks, pose=sighting.pose, side=side, agreed_s=time_s, known=known)

    def velocity_to(self, time_s: float, box: Box) -> tuple[float, float]:
        was, gap_s = self.face.box, time_s - self.seen_s
        if gap_s <= 0 or over(gap_s, MAX_STEP_S):
            return 0.0, 0.0
        return (
            (box.x - was.x + (box.w - was.w) / 2) / gap_s,
            (box.y - was.y + (box.h - was.h) / 2) / gap_s,
        )


def claims(
    tracks: Sequence[Track], time_s: float, sighting: Sighting, *, held: Collection[int], alone: bool
) -> list[float]:
    """What each track scores with this face. A track that was seen beside the one at its place is somebody else."""
    scores = [t.score(time_s, sighting, held=t.face_id in held, alone=alone) for t in tracks]
    began = [t.first_s for t, score in zip(tracks, scores, strict=True) if t.face_id in held and score > DOUBT]
    since_s = min(began, default=math.inf)
    return [
        DOUBT * score if t.face_id not in held and t.seen_s >= since_s else score
        for t, score in zip(tracks, scores, strict=True)
    ]


class People:
    """Everybody that was seen in a clip within the last minute. Nothing of them outlives this object."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.count = 0

    def owners(
        self, time_s: float, sightings: Sequence[Sighting], *, held: Collection[int] = (), taken: Collection[int] = ()
    ) -> list[Track | None]:
        """Whose each face of a frame is, None where somebody new's.

        `held` are the ids of the frame before, `taken` those of people who are known to be others.
        """
        free = [t for t in self.tracks if t.face_id not in taken and not over(time_s - t.seen_s, FORGET_LOOKS_S)]
        crops = [around(sighting.face.box) for sighting in sightings]
        alone = [not any(overlap(own, other) > 0 for other in crops if other is not own) for own in crops]
        scores = [
            claims(free, time_s, sighting, held=held, alone=clear)
            for sighting, clear in zip(sightings, alone, strict=True)
        ]
        owners: list[Track | None] = [None] * len(sightings)
        for row, column in assign(scores):
            owners[row] = free[column]
        return owners

    def saw(self, time_s: float, sighting: Sighting, owner: Track | None) -> Track:
        """Remember this face as its owner's, or as somebody new, and forget who has been away for longest."""
        if owner is None:
            face, _, pose, looks = sighting
            track = Track(self.count, face, pose, looks, (looks,), longer_side(face.box), time_s, time_s, time_s)
            self.count += 1
        else:
            track = owner.after(time_s, sighting)
        others = (t for t in self.tracks if t.face_id != track.face_id and not over(time_s - t.seen_s, FORGET_LOOKS_S))
        self.tracks = [*sorted(others, key=lambda t: t.seen_s), track][-MAX_REMEMBERED:]
        return track

    def replaced(self, track: Track) -> Track:
        """Remember that it is somebody else who is at this one's place."""
        gone = track._replace(replaced=True)
        self.tracks = [gone if t.face_id == track.face_id else t for t in self.tracks]
        return gone

    def lately(self, time_s: float) -> int:
        """How many were seen so shortly before that they may still be there."""
        return sum(not over(time_s - track.seen_s, FORGET_PLACE_S) for track in self.tracks)


def over(span_s: float, limit_s: float) -> bool:
    """Whether a span is longer, were it not for rounding: 1.2 - 0.7 < 0.5 in binary."""
    return span_s > limit_s + TIME_TOLERANCE_S


def longer_side(box: Box) -> float:
    return max(box.w, box.h)


def around(box: Box) -> Box:
    """The part of the picture that is compared, roughly."""
    side = CROP_MARGIN * longer_side(box)
    return Box(box.x + (box.w - side) / 2, box.y + (box.h - side) / 2, side, side)
