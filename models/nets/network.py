"""How large the networks are: settings that teacher and student share."""

from typing import Annotated, Literal

from pydantic import Field

from models.nets.encoder_spec import EncoderSpec
from models.spec import Modality, Spec

FusionName = Literal["transformer", "concat", "jca", "lfan"]
TNetName = Literal["bottleneck", "narrow", "wide", "transformer"]


class NetworkSpec(Spec):
    """Sizes that must be equal in teacher and student, because one's features become the other's targets."""

    dim: Annotated[int, Field(ge=16, le=2048, multiple_of=16)] = 64
    steps: Annotated[int, Field(ge=1, le=64)] = 5
    """Time steps of a window after the encoders."""
    fusion: FusionName = "transformer"
    tnet: TNetName = "bottleneck"
    encoders: dict[Modality, EncoderSpec] = Field(default_factory=dict)
    """What is not named here has the small encoder."""

    def encoder(self, modality: str) -> EncoderSpec:
        """The settings of one modality's encoder."""
        return self.encoders.get(modality, EncoderSpec())
