"""The rows of the table: what each student is given. All else is equal: data, split, starts, steps, selection rule."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from training.stage_config import CHOICE_OF_ANCHORS, StudentConfig

TeacherName = Literal["joint", "cross-fitted", "prevalent", "privileged", "untrained", "shuffled", "multi"]
Graph = Literal["prevalent", "student", "oracle"]
Weighting = Literal["balanced", "paper", "as the paper's"]
Change = Callable[[StudentConfig], StudentConfig]


def unchanged(config: StudentConfig) -> StudentConfig:
    """The recipe's own settings."""
    return config


def changed(**values: object) -> Change:
    """The recipe's settings with other values, validated as the recipe's are."""
    return lambda config: StudentConfig.model_validate(config.model_dump() | values)


class Method(NamedTuple):
    """One row."""

    graph: Graph = "student"
    """`prevalent`: no T-Net branch; `oracle`: the teacher's real features in place of the T-Net's."""
    trained_tnet: bool = True
    """Whether stage 2 trains the T-Net, and stage 3 keeps its loss; else the task loss alone does."""
    terms: tuple[str, ...] = ()
    """Names in `training.stages.terms.TERMS`."""
    weighting: Weighting = "balanced"
    """By the gradient's size, one rule for every term; the paper's `ot_weight`; or, for ablations, the weight at
    which a term's gradient is as large as that of PKDOT's at the paper's weight."""
    teacher: TeacherName = "joint"
    """Which teacher the terms see. The T-Net's targets always come from the joint one."""
    change: Change = unchanged
    """What the row changes of the recipe's student settings."""
    task_weight: float = 1.0
    """Of the task's loss."""

    @property
    def hallucinates(self) -> bool:
        """Whether the student has a T-Net branch, used or not."""
        return self.graph != "prevalent"


CENTRED = changed(centre="batch")
FUSED = changed(pair_cost=0.25)
CENTRED_FUSED = changed(centre="batch", pair_cost=0.25)
BANK = changed(bank=128, **CHOICE_OF_ANCHORS)

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "prevalent only": Method(graph="prevalent", trained_tnet=False),
        "student without privileged": Method(trained_tnet=False),
        "hallucination only": Method(),
        "oracle": Method(graph="oracle", trained_tnet=False),
        "KD": Method(terms=("KD",)),
        "features": Method(terms=("features",)),
        "cosine": Method(terms=("cosine",)),
        "CRD": Method(terms=("CRD",)),
        "VID": Method(terms=("VID",)),
        "SP": Method(terms=("SP",)),
        "RKD distance": Method(terms=("RKD distance",)),
        "RKD angle": Method(terms=("RKD angle",)),
        "PKT": Method(terms=("PKT",)),
        "CC": Method(terms=("CC",)),
        "similarity": Method(terms=("similarity",)),
        "OT of features": Method(terms=("OT of features",)),
        "Gromov-Wasserstein": Method(terms=("Gromov-Wasserstein",)),
        "PKDOT": Method(terms=("OT",), weighting="paper"),
        "PKDOT balanced": Method(terms=("OT",)),
        "KD + PKDOT": Method(terms=("KD", "OT")),
        "MT-PKDOT": Method(terms=("OT",), teacher="multi"),
        "MT-PKDOT with centroid": Method(terms=("OT", "centroid"), teacher="multi"),
        "PKDOT from labels": Method(terms=("OT to labels",)),
        "PKDOT from prevalent": Method(terms=("OT",), teacher="prevalent"),
        "PKDOT from privileged": Method(terms=("OT",), teacher="privileged"),
        "PKDOT from untrained": Method(terms=("OT",), teacher="untrained"),
        "PKDOT from shuffled": Method(terms=("OT",), teacher="shuffled"),
    }
)
"""In the table's order: lower bounds A and B, hallucination, oracle, baselines, PKDOT, and controls."""

VARIATIONS: Mapping[str, Method] = MappingProxyType(
    {
        "PKDOT, centred": Method(terms=("OT",), change=CENTRED),
        "PKDOT, centred by person": Method(terms=("OT",), change=changed(centre="person")),
        "PKDOT, fused": Method(terms=("OT",), change=FUSED),
        "PKDOT, fused by label": Method(terms=("OT",), change=changed(pair_cost=0.25, apart="label")),
        "PKDOT, centred and fused": Method(terms=("OT",), change=CENTRED_FUSED),
        "PKDOT, bank": Method(terms=("OT",), change=BANK),
        "PKDOT, projected": Method(terms=("OT",), change=changed(projection=32)),
        "PKDOT, ramped": Method(terms=("OT",), change=changed(ramp=0.2)),
        "PKDOT, cross-fitted": Method(terms=("OT",), teacher="cross-fitted"),
        "KD, cross-fitted": Method(terms=("KD",), teacher="cross-fitted"),
        "KD + PKDOT, centred": Method(terms=("KD", "OT"), change=CENTRED),
        "KD + PKDOT, centred and fused": Method(terms=("KD", "OT"), change=CENTRED_FUSED),
        "KD + PKDOT, cross-fitted": Method(terms=("KD", "OT"), teacher="cross-fitted"),
        "KD + PKDOT, cross-fitted, centred and fused": Method(
            terms=("KD", "OT"), teacher="cross-fitted", change=CENTRED_FUSED
        ),
        "KD + SP": Method(terms=("KD", "SP")),
        "MT-PKDOT, per sample": Method(terms=("OT",), teacher="multi", change=changed(teacher_choice="sample")),
        "MT-PKDOT, as published": Method(
            terms=("OT",),
            weighting="paper",
            teacher="multi",
            change=changed(teacher_choice="batch", ot_weight=0.2),
            task_weight=0.8,
        ),
    }
)
"""What may make structural OT give something; docs/results.md says what did."""


def _at_batch(batch: int, *, keep_k: bool) -> Change:
    """Another batch, in as many steps as the recipe's; k the same, or the same share of the batch."""

    def change(config: StudentConfig) -> StudentConfig:
        k = config.k if keep_k else max(1, round(config.k * batch / config.batch))
        return changed(batch=batch, k=min(k, batch))(config)

    return change


def _ablations() -> dict[str, Method]:
    paper = Method(terms=("OT",), weighting="paper")
    equal = Method(terms=("OT",), weighting="as the paper's")
    rows = {f"ablation k={k}": paper._replace(change=changed(k=k)) for k in (4, 8, 16, 30)}
    rows |= {f"ablation k={k}, normalised": equal._replace(change=changed(k=k, normalise=True)) for k in (4, 8, 16, 30)}
    rows |= {f"ablation blur={blur:g}": paper._replace(change=changed(blur=blur)) for blur in (0.03, 0.3, 1.0)}
    rows |= {
        f"ablation blur={blur:g}, normalised": equal._replace(change=changed(blur=blur, normalise=True))
        for blur in (0.03, 0.1, 0.3, 1.0)
    }
    rows |= {f"ablation anchors={a}": paper._replace(change=changed(anchors=a)) for a in ("nearest", "shared")}
    rows |= {f"ablation weight={w:g}": paper._replace(change=changed(ot_weight=w)) for w in (0.01, 0.1, 0.3, 1.0, 3.0)}
    rows["ablation without T-Net"] = Method(graph="prevalent", trained_tnet=False, terms=("OT",), weighting="paper")
    rows["ablation untrained T-Net"] = Method(trained_tnet=False, terms=("OT",), weighting="paper")
    for batch in (16, 64, 128):
        rows[f"ablation batch={batch}"] = paper._replace(change=_at_batch(batch, keep_k=True))
        rows[f"ablation batch={batch}, k/B"] = paper._replace(change=_at_batch(batch, keep_k=False))
    return rows


ABLATIONS: Mapping[str, Method] = MappingProxyType(_ablations())
"""One setting of PKDOT at a time."""

ROWS: Mapping[str, Method] = MappingProxyType({**METHODS, **VARIATIONS, **ABLATIONS})

BASIC = ("student without privileged", "hallucination only", "PKDOT")
"""The rows of `pkdot compare` where none are named."""
