"""What each stage of a run is told, and what it is told of people and labels."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What torch and NumPy both take, also with a rank added."""
Choice = Literal["batch", "sample"]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SplitConfig(Config):
    """Who trains, selects, calibrates, and who is tested. Shares are of all people; each is in one part only."""

    protocol: Literal["subject-kfold", "loso", "official", "clip-kfold"] = "subject-kfold"
    """`official`: the corpus's own test split. `clip-kfold`: clips of one person are in several parts; it is there
    to compare with published numbers, and everything it makes says that it is not subject-independent."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Of the two k-fold protocols."""
    select: Share = 0.15
    """Choose the epoch."""
    calibrate: Share = 0.2
    """Fit the conformal quantiles, nothing else."""
    seed: Seed = 0

    @model_validator(mode="after")
    def some_are_left_for_training(self) -> Self:
        test = 1 / self.folds if self.protocol.endswith("kfold") else 0.0
        if test + self.select + self.calibrate >= 0.9:
            raise ValueError("test, select and calibrate together leave under a tenth of the people for training")
        return self


class LabelsConfig(Config):
    """Few labels, many pairs: how many of the training and selection labels are used.

    What loses its label stays as a pair of recordings, for the T-Net and for every distillation term.
    """

    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    by: Literal["class", "person"] = "class"
    """Of each class its share (of values: of a person's clips or labelled time), or all labels of a share of people."""


class CalibrationConfig(Config):
    """What a run does where its calibration people are too few for a conformal quantile at `confidence_level`."""

    few_people: Literal["none", "out-of-fold"] = "none"
    """`none`: no set or interval, with the reason. `out-of-fold`: a heuristic, the pooled quantile of people's scores
    by nets which did not see them; the recipe is trained `parts` times more for it."""
    parts: Annotated[int, Field(ge=2)] = 5
    """Of the training people; each part is scored by nets that were trained without it."""


class StageConfig(Config):
    epochs: Annotated[int, Field(ge=1)] = 10
    batch: Annotated[int, Field(ge=2)] = 32
    """Over all ranks, where several train."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Weight = 1e-2


class TeacherConfig(StageConfig):
    cross_fits: Annotated[int, Field(ge=2)] = 2
    """Teachers of the cross-fitted rows: each is trained without one part of the training people, and teaches it."""


class TNetConfig(StageConfig):
    epochs: Annotated[int, Field(ge=1)] = 30
    batch: Annotated[int, Field(ge=2)] = 64
    cosine_weight: Weight = 0.0
    """Of 1 - cos between hallucinated and real features, beside the squared error."""


class StudentConfig(StageConfig):
    """The student's stage: L = L_task + tnet_weight · L_TNet + ot_weight · L_OT."""

    tnet_weight: Weight = 0.5
    ot_weight: Weight = 0.6
    """Lambda in the paper."""
    gradient_ratios: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0.3,)
    """Balanced rows of the table: how large a term's gradient at z is, in units of the task's, when stage 3 begins.
    Of several, the one that the selection people like best is kept."""
    ramp: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the steps over which a term's weight rises from 0."""
    temperature: Annotated[float, Field(gt=0)] = 3.0
    """Of logits distillation."""
    k: Annotated[int, Field(gt=0)] = 15
    """Anchors of each row; at most `batch`. Not with a `bank`, and `anchors` neither: each prototype is one."""
    anchors: Literal["farthest", "nearest", "shared"] = "farthest"
    blur: Annotated[float, Field(gt=0)] = 0.1
    normalise: bool = False
    """Divide the cost by k, so that one blur serves every k."""
    centre: Literal["none", "batch", "person"] = "none"
    """The mean that is subtracted from z before the cosine; `batch` is that of the prototypes where there is a `bank`,
    which nobody's own mean can be taken off."""
    pair_cost: Weight = 0.0
    """Added to the transport cost between samples that are apart: 0 is PKDOT, a large one compares in pairs."""
    apart: Literal["sample", "label"] = "sample"
    """Which samples are: any two, or those whose labels differ; a sample without a label is apart from all others.
    Without a `pair_cost` nothing is."""
    bank: Annotated[int, Field(ge=0)] = 0
    """Prototypes that serve as anchors in place of the batch's own samples; 0 for none."""
    projection: Annotated[int, Field(ge=0)] = 0
    """Width of a projection of z that the structural terms see and export leaves out; 0 for none, as with a `bank`."""
    teacher_choice: Choice = "batch"
    """MT-PKDOT's rows: for what one of its three teachers is chosen, which lie in one space."""
    trainable: Literal["all", "fusion"] = "all"
    """`fusion` freezes the encoders and the T-Net."""

    @property
    def windows_each(self) -> int:
        """How many windows of a person come together in a batch: several, where their own mean is taken off."""
        return 4 if self.centre == "person" else 1

    @model_validator(mode="after")
    def anchors_come_from_the_batch(self) -> Self:
        if self.k > self.batch and not self.bank:
            raise ValueError(f"k is {self.k}, but a batch has only {self.batch} samples to choose anchors from")
        return self

    @model_validator(mode="after")
    def a_banks_anchors_are_not_chosen(self) -> Self:
        vain = [name for name, default in CHOICE_OF_ANCHORS.items() if getattr(self, name) != default]
        vain += ["projection"] if self.projection else []
        vain += ["centre"] if self.centre == "person" else []
        if self.bank and vain:
            listed = ", ".join(f"{name}={getattr(self, name)}" for name in vain)
            raise ValueError(f"bank is {self.bank}, beside which {listed} would do nothing: leave out one or the other")
        return self

    @model_validator(mode="after")
    def what_is_apart_costs_something(self) -> Self:
        if self.apart != "sample" and self.pair_cost == 0:
            raise ValueError(
                f"apart is {self.apart}, which does nothing while pair_cost is 0: set that, or leave it out"
            )
        return self


CHOICE_OF_ANCHORS: dict[str, object] = {name: StudentConfig.model_fields[name].default for name in ("k", "anchors")}
"""Settings that a bank leaves no use for, at the values that say so."""
