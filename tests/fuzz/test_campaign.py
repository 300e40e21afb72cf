"""A bounded number of damaged inputs, by a fixed seed, over real sockets to a real `pkdot serve`."""

from collections.abc import Iterator

import pytest

from training.face_nets.fetch import FaceNetsMissingError

from .campaign import Campaign
from .footprint import growth, settled
from .inputs import Source
from .seeds import Seed
from .service import Service, serving
from .structured import one_round

SEED = 20261129
WARM_UP, INPUTS, EXAMPLES = 50, 160, 40
WORKERS = 6
AT_MOST_S = 1_800.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that has small limits."""
    try:
        with serving(tmp_path_factory.mktemp("fuzz")) as service:
            yield service
    except FaceNetsMissingError as error:
        pytest.skip(str(error))


def test_damaged_inputs_get_only_what_the_contract_promises_and_leave_nothing_behind(
    service: Service, seeds: dict[str, Seed], tmp_path_factory: pytest.TempPathFactory
) -> None:
    campaign = Campaign(service, tmp_path_factory.mktemp("kept"))
    source = Source(SEED, list(seeds.values()), service.models())
    campaign.run(source, range(WARM_UP), WORKERS, AT_MOST_S)
    warm = settled(service.footprint)
    campaign.run(source, range(WARM_UP, INPUTS), WORKERS, AT_MOST_S)
    one_round(campaign, source, SEED, EXAMPLES)
    cold = settled(service.footprint, warm)

    assert campaign.problems() == []
    assert growth(warm, cold) == []
    assert campaign.count >= INPUTS + EXAMPLES
    assert campaign.outcomes.keys() >= {
        "media: 200",
        "media: 415 unsupported_media",
        "media: 422 unreadable_media",
        "form: 400 malformed_request",
        "form: 422 invalid_field",
        "tensors: 200",
        "tensors: 422 of /v2",
        "stream: stream 1000",
        "head: bare 400",
    }
