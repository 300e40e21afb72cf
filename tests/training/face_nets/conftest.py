"""The wheel with the original nets, where `make install` left it."""

import pytest

from training.face_nets.fetch import WHEEL
from training.files.cache_folder import cache_root


@pytest.fixture(scope="session")
def wheel():
    """The path of the wheel in the user's cache; nothing is downloaded for a test."""
    path = cache_root() / "face" / WHEEL
    if not path.is_file():
        pytest.skip("the face nets' wheel is not in the cache: run `python -m training.face_nets.fetch`")
    return path
