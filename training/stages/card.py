"""The model card: what a bundle is, for whom, how well, and what it must not be used for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    "classification": "Classes are the corpus's labels; what they mean for other people is for its owners to say.",
    "regression": "Values are the corpus's labels; what they mean for other people is for its owners to say.",
}

PROMISES = {
    "conformal": (
        "Sets and intervals are hierarchical conformal: at the stated level they hold for a window of a new person, "
        "like the calibration people, on average over people."
    ),
    "heuristic": (
        "**heuristic:** where the table says so, sets and intervals come from pooled out-of-fold scores, because the "
        "calibration people were too few. They promise nothing for a new person, and may be too narrow."
    ),
    "none": "Where no set or interval is given, the table says why.",
}
"""By kind of calibration."""


def card(
    setting: Setting, graphs: Sequence[GraphSpec], provenance: Provenance, groups: Mapping[str, Mapping[str, Any]]
) -> str:
    """The card as Markdown; `groups` holds scores by group of people, by who was scored and attribute."""
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
        *(f"- {note}" for note in setting.notes),
        "",
        "## Graphs",
        "| available | hallucinated | calibration |",
        "| --- | --- | --- |",
        *(f"| {', '.join(g.available)} | {', '.join(g.hallucinated) or '–'} | {_calibration(g)} |" for g in graphs),
        "",
        "Hallucinated modalities are guesses of a T-Net from what is available; they add no observation.",
        *(PROMISES[kind] for kind in PROMISES if any(g.calibration.kind == kind for g in graphs)),
        "What was measured of sets and intervals on the test people:",
        "",
        *_coverage(graphs),
        "",
        "## Scores on the test people",
        "| score | value |",
        "| --- | --- |",
        *(f"| {name} | {_shown(value)} |" for name, value in sorted(provenance.metrics.items())),
        "",
        "## Scores by group of people",
        *_groups(groups),
        "",
        "Scores by skin tone were not measured for this bundle.",
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
    return f"{100 * c.confidence_level:g}% from {c.windows} windows of {c.people} people"


def _coverage(graphs: Sequence[GraphSpec]) -> Iterator[str]:
    """A line for each output of each graph."""
    for graph in graphs:
        for output, found in graph.calibration.coverage.items():
            yield (
                f"- {', '.join(graph.available)}, {output}: {found.mean:.0%} of a person's windows are covered, "
                f"{found.tenth_percentile:.0%} at the tenth percentile of {found.people} people; "
                f"mean width {_shown(found.width)}."
            )
        if not graph.calibration.coverage:
            yield f"- {', '.join(graph.available)}: not measured."


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each attribute of each net: people's mean headline score by group, the worst, and the gap."""
    for who, reports in groups.items():
        for attribute, report in reports.items():
            shown = ", ".join(
                f"{value} {_shown(score)} ({people} people, {clips} items)"
                for value, (score, _, people, clips) in report["groups"].items()
            )
            gap = "" if report["gap"] is None else f"; worst {report['worst']}, gap {_shown(report['gap'])}"
            yield f"- {who}, {attribute}: {shown}{gap}"


def _shown(value: float) -> str:
    """A count, or what is 100 and more, as a whole number; other numbers to three significant digits.

    >>> [_shown(value) for value in (75.0, 1234.5, 0.4, 0.00012345)]
    ['75', '1234', '0.400', '0.000123']
    """
    return f"{value:.0f}" if value.is_integer() or abs(value) >= 99.95 else f"{value:#.3g}"
