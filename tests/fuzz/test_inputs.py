"""Inputs are the same for a seed, and damage knows where a recording's sizes and names are written."""

import zlib
from random import Random

import pytest

from models.inputs.media.media import MediaLimits, probe

from .inputs import Source
from .mutations import ON_PARTS, checksummed, damaged, replaced
from .parts import parts_of, sized
from .seeds import FILMS, PICTURES, Seed
from .wire import KINDS

MODEL = {
    "name": "affect",
    "parameters": {"input_sets": "face;voice;face,voice"},
    "inputs": [
        {"name": "face", "datatype": "UINT8", "shape": [-1, 2, 4, 4, 3]},
        {"name": "voice", "datatype": "FP32", "shape": [-1, 64, 10]},
    ],
    "outputs": [{"name": "values"}],
}
STRUCTURED = tuple(name for name in (*FILMS, *PICTURES) if name not in ("mp3", "adts", "amr"))


def test_an_input_depends_on_its_seed_and_number_alone(seeds: dict[str, Seed]) -> None:
    one, again, other = (Source(seed, list(seeds.values()), [MODEL]) for seed in (1, 1, 2))

    drawn = [one.draw(number) for number in range(300)]

    assert drawn == [again.draw(number) for number in reversed(range(300))][::-1]
    assert sum(given == other.draw(number) for number, given in enumerate(drawn)) < 10
    assert {given.kind for given in drawn} == set(KINDS)


@pytest.mark.parametrize("name", FILMS)
def test_the_recordings_are_valid(seeds: dict[str, Seed], name: str) -> None:
    media = probe(seeds[name].content, MediaLimits())

    assert (media.has_video, media.has_audio) == (FILMS[name].picture is not None, FILMS[name].sound is not None)


@pytest.mark.parametrize("name", STRUCTURED)
def test_the_sizes_that_a_valid_recording_says_are_read_and_written_as_they_are(
    seeds: dict[str, Seed], name: str
) -> None:
    data = seeds[name].content
    parts = parts_of(data)
    sizes = [part for part in parts if part.size is not None and part.content < part.end < len(data)]
    right = sum(
        sized(part, part.end - part.content) == data[part.size.at : part.size.at + part.size.width]
        for part in sizes
        if part.size is not None
    )

    assert len(parts) >= 2
    assert right >= 0.9 * len(sizes)
    assert max(part.end for part in parts) >= 0.1 * len(data)


@pytest.mark.parametrize("name", STRUCTURED)
def test_each_kind_of_damage_changes_the_recording(seeds: dict[str, Seed], name: str) -> None:
    data = seeds[name].content
    parts = parts_of(data)

    assert {
        mutate.__name__ for mutate in ON_PARTS if all(mutate(Random(n), data, parts) == data for n in range(9))
    } == set()


def test_a_box_that_grows_lets_those_around_it_grow(seeds: dict[str, Seed]) -> None:
    data = seeds["mp4"].content
    track = data.index(b"tkhd") - 4
    rng = Random(3)
    assert rng.random() < 0.7  # the sizes are to be mended

    grown = replaced(Random(3), data, parts_of(data), track, track, b"\0\0\0\x0cfree1234")

    for name in (b"moov", b"trak"):
        at = data.index(name) - 4
        assert int.from_bytes(grown[at : at + 4], "big") == int.from_bytes(data[at : at + 4], "big") + 12
    assert probe(grown, MediaLimits()).has_video


def test_checksums_of_a_valid_ogg_file_stay(seeds: dict[str, Seed]) -> None:
    data = seeds["opus"].content

    assert checksummed(data) == data
    assert checksummed(data[:100] + b"\0\0" + data[102:]) != data[:100] + b"\0\0" + data[102:]


def test_damage_by_another_seed_is_another(seeds: dict[str, Seed]) -> None:
    data = seeds["mp4"].content
    results = {zlib.crc32(damaged(Random(number), data)) for number in range(100)}

    assert len(results) > 95
    assert damaged(Random(7), data) == damaged(Random(7), data)
