"""How much can be known at best of the synthetic labels? Probes on the latent variables alone; no network, no picture.

python benchmarks/synthetic_probes.py --out synthetic_probes.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.corpora.affect_model import CONTROL_HZ, SyntheticAffect, annotate, draw_affect
from training.corpora.drawn_motion import VIDEO_HZ
from training.corpora.pain_model import SyntheticPain, clip_rng, draw_person, draw_reaction
from training.scores.metrics import ccc_score

LEVELS = 5
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pain_latents(people: int, clips: int) -> tuple[Floats, Ints, Ints, Floats]:
    """(n, 2) reaction and display, (n,) level, (n,) person, (n,) the person's reactivity."""
    settings = SyntheticPain()
    latents, levels, owners, reactivity = [], [], [], []
    for index in range(people):
        person = draw_person(settings, index)
        for level in range(LEVELS):
            for number in range(clips):
                rng = clip_rng(settings, index, level, number)
                reaction = draw_reaction(rng, settings, person, level / (LEVELS - 1))
                latents.append((reaction.strength, reaction.display))
                levels.append(level)
                owners.append(index)
                reactivity.append(person.reactivity)
    return np.array(latents), np.array(levels), np.array(owners), np.array(reactivity)


def bin_classifier(x: Floats, levels: Ints, bins: int = 60) -> tuple[Floats, Ints]:
    """The likeliest level in each bin of x: edges (bins - 1,) and levels (bins,)."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.digitize(x, edges)
    votes = np.array([np.bincount(levels[place == b], minlength=LEVELS) for b in range(len(edges) + 1)])
    return edges, votes.argmax(axis=1)


def pain_probe(people: int, clips: int) -> dict[str, dict[str, float]]:
    """Accuracies on the odd people of a classifier fitted on the even ones."""
    latents, levels, owners, reactivity = pain_latents(people, clips)
    extremes = (levels == 0) | (levels == LEVELS - 1)
    table = {}
    for name, x in (("reaction r", latents[:, 0]), ("face's display", latents[:, 1])):
        for group, inside in (("all people", np.ones_like(extremes)), ("people who react", reactivity > 0.1)):
            fit, test = inside & (owners % 2 == 0), inside & (owners % 2 == 1)
            edges, best = bin_classifier(x[fit], levels[fit])
            five = float((best[np.digitize(x[test], edges)] == levels[test]).mean())
            fit, test = fit & extremes, test & extremes
            edges, best = bin_classifier(x[fit], levels[fit])
            two = float((best[np.digitize(x[test], edges)] == levels[test]).mean())
            table[f"{name}, {group}"] = {"five levels": five, "BL1 against PA4": two}
    return table


def affect_probe(videos: int) -> dict[str, dict[str, float]]:
    """CCC of what each source shows with the label, pooled over labelled frames."""
    settings = SyntheticAffect()
    frames = round(settings.video_s * VIDEO_HZ)
    shown: dict[str, list[Floats]] = {
        "the traces themselves": [],
        "what the voice shows": [],
        "what the face shows": [],
    }
    labels = []
    for index in range(videos):
        affect = draw_affect(settings, index)
        label = annotate(np.random.default_rng([settings.seed, 4, index]), settings, affect, frames)
        labelled = np.isfinite(label[:, 0])
        at = (np.arange(frames) / VIDEO_HZ * CONTROL_HZ).astype(int)[labelled]
        labels.append(label[labelled])
        shown["the traces themselves"].append(np.stack([affect.valence[at], affect.arousal[at]], axis=1))
        shown["what the voice shows"].append(np.stack([affect.voice_valence[at], affect.voice_arousal[at]], axis=1))
        shown["what the face shows"].append(np.stack([affect.face_valence[at], affect.face_arousal[at]], axis=1))
    truth = np.concatenate(labels).astype(np.float64)
    return {
        name: {
            axis: ccc_score(np.concatenate(parts)[:, i].astype(np.float64), truth[:, i])
            for i, axis in enumerate(("valence", "arousal"))
        }
        for name, parts in shown.items()
    }


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("synthetic_probes.json"))
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--videos", type=int, default=300)
    arguments = parser.parse_args()
    table = pain_probe(arguments.people, clips=3) | affect_probe(arguments.videos)
    for name, scores in table.items():
        print(f"{name:35}" + "  ".join(f"{score} {value:.3f}" for score, value in scores.items()))
    arguments.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
