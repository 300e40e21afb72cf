"""Two ways to follow faces through a clip: one of them, or all."""

import math
from collections.abc import Collection, Iterable
from functools import cache
from typing import Final, NamedTuple

from models.inputs.face.appearance import describe
from models.inputs.face.geometry import Picture, crop, overlap, square_around
from models.inputs.face.nets import Detection, FaceNets
from models.inputs.face.quality import head_pose
from models.inputs.face.reading import Face, agree, confirm, read, settle
from models.inputs.face.tracks import CROP_MARGIN, NEAR_OVERLAP, TIME_TOLERANCE_S, People, Sighting, Track

DETECT_EVERY_S: Final = 0.5
SAME_FACE_OVERLAP: Final = 0.5
RIVAL_AREA: Final = 1.5
RIVAL_AFTER_S: Final = 1.0


class Seen(NamedTuple):
    """A face in the present frame, and whose it is."""

    track: Track
    sighting: Sighting


def sight(rgb: Picture, face: Face, size_px: int) -> Sighting:
    """The face, with its crop and its looks."""
    picture = crop(rgb, square_around(face.points, face.roi.angle_rad, CROP_MARGIN), size_px)
    return Sighting(face, picture, head_pose(face.points), describe(picture))


class LargestFace:
    """Keeps to one face until it is lost, or another is 1.5 times as large for a second."""

    def __init__(self, nets: FaceNets, size_px: int) -> None:
        self.nets = nets
        self.size_px = size_px
        self.people = People()
        self.track: Track | None = None
        self.held = False
        self.detected_s = -math.inf
        self.rival_since_s: float | None = None

    def step(self, time_s: float, rgb: Picture) -> list[Seen]:
        """The followed face in this frame, or none."""
        seen = self.again(time_s, rgb)
        if seen is None:
            seen = self.reacquire(time_s, rgb)
        elif time_s - self.detected_s >= DETECT_EVERY_S - TIME_TOLERANCE_S:
            seen = self.rival(time_s, rgb, seen.track) or seen
        self.held = seen is not None
        if seen is None:
            return []
        self.track = seen.track
        return [seen]

    def again(self, time_s: float, rgb: Picture) -> Seen | None:
        """The face that was followed a frame ago, if it is still at its place and nobody else is there instead."""
        if self.track is None or not self.held:
            return None
        face = read(self.nets, rgb, self.track.face.roi)
        if face is None:
            return None
        sighting = sight(rgb, face, self.size_px)
        (owner,) = self.people.owners(time_s, [sighting], held=[self.track.face_id])
        if owner is None:
            self.track = self.people.replaced(self.track)
            return None
        return Seen(self.people.saw(time_s, sighting, owner), sighting)

    def reacquire(self, time_s: float, rgb: Picture) -> Seen | None:
        """The lost face near its place, else the largest there is."""
        detections, lost = self.detect(time_s, rgb), self.track
        self.rival_since_s = None
        look = cache(lambda place: self.look(rgb, detections[place]))  # at most once at each
        if lost is not None:
            nearness = [lost.nearness(time_s, d.box, held=False) for d in detections]
            near = [place for place, value in enumerate(nearness) if value >= NEAR_OVERLAP]
            for place in sorted(near, key=lambda place: nearness[place], reverse=True):
                sighting = look(place)
                if sighting is not None and lost.score(time_s, sighting, held=False, alone=True) > 0:
                    return Seen(self.people.saw(time_s, sighting, lost), sighting)
        return self.start(time_s, map(look, range(len(detections))))

    def rival(self, time_s: float, rgb: Picture, track: Track) -> Seen | None:
        """Another face that has been much larger than the followed one at every detection for a second."""
        detections = self.detect(time_s, rgb)
        own = [d for d in detections if overlap(d.box, track.face.box) >= NEAR_OVERLAP]
        others = [d for d in detections if overlap(d.box, track.face.box) < NEAR_OVERLAP]
        area = own[0].box.area if own else track.face.box.area
        rivals = [d for d in others if d.box.area >= RIVAL_AREA * area]
        if not rivals:
            self.rival_since_s = None
        elif self.rival_since_s is None:
            self.rival_since_s = time_s
        elif time_s - self.rival_since_s >= RIVAL_AFTER_S - TIME_TOLERANCE_S:
            self.rival_since_s = None
            return self.start(time_s, (self.look(rgb, d) for d in rivals), taken=[track.face_id])
        return None

    def detect(self, time_s: float, rgb: Picture) -> list[Detection]:
        """Faces by size, the largest first."""
        self.detected_s = time_s
        return sorted(self.nets.detect(rgb), key=lambda d: d.box.area, reverse=True)

    def look(self, rgb: Picture, detection: Detection) -> Sighting | None:
        """The detected face, if the landmark net sees it as well."""
        face = confirm(self.nets, rgb, detection)
        return None if face is None else sight(rgb, face, self.size_px)

    def start(self, time_s: float, sightings: Iterable[Sighting | None], taken: Collection[int] = ()) -> Seen | None:
        """Another face: the first of these that is one, be it somebody new or somebody who was seen before."""
        sighting = next((s for s in sightings if s is not None), None)
        if sighting is None:
            return None
        (owner,) = self.people.owners(time_s, [sighting], taken=taken)
        return Seen(self.people.saw(time_s, sighting, owner), sighting)


class AllFaces:
    """Follows the `max_faces` largest; one that is followed gives way only to one 1.5 times as large."""

    def __init__(self, nets: FaceNets, size_px: int, max_faces: int) -> None:
        self.nets = nets
        self.size_px = size_px
        self.max_faces = max_faces
        self.people = People()
        self.held: list[Track] = []
        self.detected_s = -math.inf

    def step(self, time_s: float, rgb: Picture) -> list[Seen]:
        """Every face in this frame, the largest first."""
        faces = self.again(rgb)
        due = time_s - self.detected_s >= DETECT_EVERY_S - TIME_TOLERANCE_S
        if due or not faces or len(faces) < self.people.lately(time_s):
            self.detected_s = time_s
            faces += self.others(rgb, faces)
        sightings = [sight(rgb, face, self.size_px) for face in faces]
        held = {track.face_id for track in self.held}
        owners = self.people.owners(time_s, sightings, held=held)

        def standing(place: int) -> float:
            owner = owners[place]
            return faces[place].box.area * (RIVAL_AREA if owner is not None and owner.face_id in held else 1)

        kept = sorted(range(len(faces)), key=standing, reverse=True)[: self.max_faces]
        kept.sort(key=lambda place: faces[place].box.area, reverse=True)
        seen = [Seen(self.people.saw(time_s, sightings[i], owners[i]), sightings[i]) for i in kept]
        self.held = [one.track for one in seen]
        return seen

    def again(self, rgb: Picture) -> list[Face]:
        """The faces at the places of a frame ago, whoever they are; two places may have come to show one face."""
        faces: list[Face] = []
        for track in self.held:
            face = read(self.nets, rgb, track.face.roi)
            if face is not None and not shown(face, faces):
                faces.append(face)
        return faces

    def others(self, rgb: Picture, faces: list[Face]) -> list[Face]:
        """The largest of the faces that are not among these, near or far."""
        others: list[Face] = []
        for detection in sorted(self.nets.detect_all(rgb), key=lambda d: d.box.area, reverse=True):
            if len(others) == self.max_faces:
                break
            if any(agree(detection, face) for face in faces + others):
                continue
            face = confirm(self.nets, rgb, detection)
            if face is not None and not shown(face, faces + others):
                others.append(settle(self.nets, rgb, face) if self.people.tracks else face)
        return others


def shown(face: Face, faces: Iterable[Face]) -> bool:
    """Whether it is one of these, read from another square."""
    return any(overlap(face.box, other.box) >= SAME_FACE_OVERLAP for other in faces)
