"""Which rows of a feature corpus are scored together: those of a recording, where it has one class.

Where classes alternate within a recording, to average the rows of each would let the truth cut the recording into
parts, which nobody can do for a recording without labels.
"""

import numpy as np

from training.corpora.feature_corpus import FeatureCorpus


def with_several_classes(corpus: FeatureCorpus) -> frozenset[str]:
    """The recordings whose labelled rows are of two classes or more; none where labels are values."""
    if corpus.labels.ndim > 1:
        return frozenset()
    found = {(name, label) for name, label in zip(corpus.clip, corpus.labels.tolist(), strict=True) if label >= 0}
    names, counts = np.unique([name for name, _ in found], return_counts=True)
    return frozenset(names[counts > 1].tolist())


def notes_on_pooling(corpus: FeatureCorpus) -> tuple[str, ...]:
    """A sentence where rows of a recording are scored each by itself."""
    if not (several := with_several_classes(corpus)):
        return ()
    return (
        f"{len(several)} of {len(set(corpus.clip))} recordings have windows of several classes, each of which is "
        "scored by itself.",
    )
