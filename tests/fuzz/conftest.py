"""Recordings to damage."""

import pytest

from .seeds import Seed, make_seeds


@pytest.fixture(scope="session")
def seeds() -> dict[str, Seed]:
    """Small valid recordings, by name."""
    return {seed.name: seed for seed in make_seeds()}
