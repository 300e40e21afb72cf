"""What is tried beside a loaded bundle, how much, and what cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models import bundle as bundle_format
from models.manifest import Manifest
from service.bundles.candidates import Candidates, falls_to, misfit
from service.environment import read_settings
from service.settings import SettingsError


@pytest.mark.parametrize(
    ("text", "folder", "share"),
    [("/next@0.1", "/next", 0.1), ("bundles@1", "bundles", 1.0), ("/at@home/next@0.25", "/at@home/next", 0.25)],
)
def test_a_folder_and_a_share_are_read_from_one_word(text: str, folder: str, share: float) -> None:
    assert Candidates.model_validate(text) == Candidates(folder=Path(folder), share=share)


@pytest.mark.parametrize("text", ["/next", "@0.1", "/next@", "/next@0", "/next@1.1", "/next@nan", "/next@much"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Candidates.model_validate(text)


def test_a_wrong_setting_is_named_with_an_example() -> None:
    with pytest.raises(SettingsError, match=r"PKDOT_CANARY='/next' is not possible: .*FOLDER@SHARE"):
        read_settings({"PKDOT_BUNDLES": "b", "PKDOT_CANARY": "/next"})


def test_empty_settings_are_unset() -> None:
    names = ("PKDOT_CANARY", "PKDOT_SHADOW", "PKDOT_ADMIN_TOKEN", "PKDOT_ADMIN_TOKEN_FILE")
    settings = read_settings({"PKDOT_BUNDLES": "b"} | dict.fromkeys(names, "")).settings

    assert (settings.canary, settings.shadow, settings.admin_token, settings.admin_token_file) == (None,) * 4


def test_two_admin_tokens_are_refused_and_neither_is_shown() -> None:
    with pytest.raises(SettingsError, match="not both") as caught:
        read_settings(
            {"PKDOT_BUNDLES": "b", "PKDOT_ADMIN_TOKEN": "open-sesame", "PKDOT_ADMIN_TOKEN_FILE": "/run/secrets/token"}
        )

    assert "open-sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_id", "position"),
    # The first 8 bytes of the SHA-256, big-endian, over 2^64; by `printf a | sha256sum`: ca978112ca1bbdca…
    [("a", 0xCA978112CA1BBDCA / 2**64), ("b", 0x3E23E8160039594A / 2**64)],
)
def test_a_request_falls_to_a_share_by_the_hash_of_its_id(request_id: str, position: float) -> None:
    assert falls_to(position + 1e-9, request_id)
    assert not falls_to(position - 1e-9, request_id)


def test_every_request_falls_to_the_whole() -> None:
    assert all(falls_to(1.0, str(number)) for number in range(1000))


@pytest.fixture
def manifest(tmp_path: Path, write: Callable[..., str]) -> Manifest:
    write(tmp_path / "load", 1.0)
    return bundle_format.load(tmp_path / "load").manifest


def changed(manifest: Manifest, **changes: Any) -> Manifest:
    return manifest.model_copy(update=changes)


def test_an_equal_interface_fits(manifest: Manifest) -> None:
    other = changed(manifest, provenance=manifest.provenance.model_copy(update={"trained_on": "more"}))

    assert misfit(other, manifest) is None


def test_another_interface_does_not(manifest: Manifest) -> None:
    inputs = manifest.inputs.model_copy(update={"window_s": 3.0})
    graph = manifest.graphs[0].model_copy(update={"available": ("ecg",)})
    for changes, what in (
        ({"values": ("strain",)}, "its values must equal the loaded bundle load's"),
        ({"inputs": inputs}, "its inputs must equal"),
        ({"graphs": (graph,)}, "its graphs take other modalities"),
        ({"face": object()}, "only one carries face nets"),
    ):
        why = misfit(changed(manifest, **changes), manifest)
        assert why is not None
        assert what in why
