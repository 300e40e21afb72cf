"""The rows of the table are those that the documentation explains."""

import re
from pathlib import Path

from training.stages.methods import ROWS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
LINES = [line.strip("|").split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| `")]


def test_every_row_has_its_line_and_no_line_is_of_a_row_that_is_not_there() -> None:
    names = [name for line in LINES for name in re.findall("`(.*?)`", line[0])]

    assert sorted(names) == sorted(ROWS)


def test_what_comes_from_a_paper_names_it() -> None:
    explained = {name: line[1] for line in LINES for name in re.findall("`(.*?)`", line[0])}
    papers = {
        "KD": "1503.02531", "features": "1412.6550", "CRD": "1910.10699", "VID": "1904.05835", "SP": "1907.09682",
        "RKD distance": "1904.05068", "RKD angle": "1904.05068", "PKT": "1803.10837", "CC": "1904.01802",
        "PKDOT": "2401.15489", "MT-PKDOT": "2408.09035", "Gromov-Wasserstein": "ICML 2016",
        "KD, cross-fitted": "2104.09732", "PKDOT, bank": "1911.05722",
    }  # fmt: skip

    assert [name for name, paper in papers.items() if paper not in explained[name]] == []
