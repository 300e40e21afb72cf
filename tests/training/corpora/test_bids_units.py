"""Units as BIDS data sets write them."""

import pytest

from training.corpora.bids_units import in_millionths


@pytest.mark.parametrize(
    ("unit", "of", "factor"),
    [
        ("siemens", "S", 1e6),
        ("microsiemens", "S", 1.0),
        ("MicroSiemens", "S", 1.0),
        ("MILLISIEMENS", "S", 1e3),
        ("nano siemens", "S", 1e-3),
        ("uSiemens", "S", 1.0),
        ("kS", "S", 1e9),
        ("volt", "V", 1e6),
        ("Volts", "V", 1e6),
        ("millivolts", "V", 1e3),
        ("micro-volt", "V", 1.0),
        ("mVolt", "V", 1e3),
        (" μV ", "V", 1.0),
        ("picovolt", "V", 1e-6),
    ],
)
def test_units_are_symbols_or_words(unit: str, of: str, factor: float) -> None:
    assert in_millionths(unit) == (of, factor)


@pytest.mark.parametrize("unit", ["MS", "MV", "us", "ohm", "S/cm", "siemensvolt", "micro", "-S", "microns", "°C", "3"])
def test_what_is_neither_siemens_nor_volt_is_nothing(unit: str) -> None:
    assert in_millionths(unit) is None
