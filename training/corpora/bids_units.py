"""Units in the JSON of BIDS: as symbols (`uS`, `µV`), or in words (`microsiemens`, `millivolts`)."""

import re
from typing import Final

from training.corpora.clip import CorpusError

MILLIONTHS: Final = {
    "": 1e6, "p": 1e-6, "n": 1e-3, "u": 1.0, "µ": 1.0, "μ": 1.0, "m": 1e3, "k": 1e9,
    "pico": 1e-6, "nano": 1e-3, "micro": 1.0, "milli": 1e3, "kilo": 1e9,
}  # fmt: skip
"""What a unit's prefix means in millionths."""
UNITS: Final = {"eda": "S", "emg": "V"}
"""Modalities whose preparation needs millionths of a unit."""
WORDS: Final = {"S": "siemens", "V": "volt"}
COLUMNS: Final = {"eda": "eda", "gsr": "eda", "emg": "emg"}
"""The modality that a word in a column's name tells."""
UNIT: Final = re.compile(r"(?:(?P<prefix>.+?)[ -]?)?(?P<base>[SV]|(?i:siemens?|volts?))")


def in_millionths(unit: str) -> tuple[str, float] | None:
    """S or V, and how many millionths of it one `unit` is; None for anything else.

    Words may have any case; symbols are as SI writes them (BIPM, The International System of Units, 9th edition, table
    7), or with u for µ: `MS` is no millisiemens.
    """
    match = UNIT.fullmatch(unit.strip())
    if match is None:
        return None
    prefix = match["prefix"] or ""
    factor = MILLIONTHS.get(prefix.lower() if len(prefix) > 1 else prefix)
    return None if factor is None else (match["base"][0].upper(), factor)


def factor_of(modality: str, column: str, unit: str | None, file: str) -> float:
    """What turns a column in `unit` into microsiemens or microvolts; 1 where none is needed, or none is given.

    Raises CorpusError, which names `file`, where the unit is anything else than the modality's own with a prefix.
    """
    if modality not in UNITS or unit is None:
        return 1.0
    base, found = UNITS[modality], in_millionths(unit)
    if found is None or found[0] != base:
        raise CorpusError(
            f"the JSON of {file} gives {column} the unit {unit!r}: expected {WORDS[base]} for {modality}, such as "
            f"u{base} or micro{WORDS[base]}."
        )
    return found[1]


def modality_named(column: str) -> str | None:
    """The modality that a column's own name tells: eda for `GSR_left`, None for `skin`."""
    words = re.split(r"[^a-z]+", column.lower())
    return next((COLUMNS[word] for word in words if word in COLUMNS), None)
