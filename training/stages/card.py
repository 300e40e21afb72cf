"""The model card: what a bundle is, for whom, how well, and what it must not be used for."""

from collections.abc import Sequence

from models.manifest import GraphSpec, Provenance
from training.stages.setting import Setting

SYNTHETIC_WARNING = (
    "**synthetic: trained on drawn faces and computed signals. Its answers on real people mean nothing.** "
    "It exists to try the software."
)

MEANING = {
    "pain": (
        "Levels are the corpus's heat stimuli, calibrated to each person: the answer estimates the stimulus from the "
        "face. It is not the pain that a person feels, and not a pain score of a patient."
    ),
    "valence-arousal": (
        "Valence (unpleasant -1 to pleasant 1) and arousal (calm -1 to excited 1) as annotators saw them, averaged "
        "over a window. It is an outside view, not what a person feels."
    ),
}


def card(setting: Setting, graphs: Sequence[GraphSpec], provenance: Provenance) -> str:
    """The card as Markdown."""
    config, corpus = setting.config, setting.corpus
    lines = [f"# {config.name}", ""]
    if corpus.synthetic:
        lines += [SYNTHETIC_WARNING, ""]
    lines += [
        "Research use only. Not a medical device, not for diagnosis, not for inferring emotions at work or in schools.",
        "",
        "## What it answers",
        MEANING[config.task],
        "",
        f"- Task: {config.task}" + (f", levels {', '.join(corpus.levels)}" if corpus.levels else ""),
        f"- Window: {config.inputs.window_s:g} s, every {config.inputs.hop_s:g} s",
        f"- Trained on: {provenance.trained_on}. {provenance.licences['corpus']}",
        f"- Protocol: {provenance.protocol}. Test people were read once.",
        *(f"- {note}" for note in corpus.notes),
        "",
        "## Graphs",
        "| available | hallucinated | calibration |",
        "| --- | --- | --- |",
        *(f"| {', '.join(g.available)} | {', '.join(g.hallucinated) or '–'} | {_calibration(g)} |" for g in graphs),
        "",
        "Hallucinated modalities are guesses of a T-Net from what is available; they add no observation.",
        "Sets and intervals are split-conformal over the calibration people's windows: the stated level holds on "
        "average for windows like theirs, and is less sure for a new person.",
        "",
        "## Scores on the test people",
        "| score | value |",
        "| --- | --- |",
        *(f"| {name} | {value:.3f} |" for name, value in sorted(provenance.metrics.items())),
        "",
        "Scores by sex, age and skin tone were not measured for this bundle.",
        "",
        "## Licences",
        *(f"- {what}: {licence}" for what, licence in provenance.licences.items()),
        "",
    ]
    return "\n".join(lines)


def _calibration(graph: GraphSpec) -> str:
    c = graph.calibration
    if c.reason is not None:
        return c.reason
    return f"{c.confidence_level:.0%} from {c.windows} windows of {c.people} people"
