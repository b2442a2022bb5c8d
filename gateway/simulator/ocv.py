"""Open-circuit voltage of a cell against its usable state of charge, for each chemistry.

* lfp: SimSES 1.3.12 (BSD-3-Clause), `CLFP_Sony_US26650_OCV.csv`, measured by M. Naumann, PhD thesis, TU Munich 2018, on a
  Sony/Murata US26650FTC1. Its last two points (3.3691 V at 0.99, 3.6 V at 1.0) still contain charge polarisation; a full
  cell rests at 3.35 to 3.40 V, so the steep end is left to the polarisation model.
* lead_acid: PyBaMM (BSD-3-Clause), parameter set `Sulzer2019` (BBOXX 12 V 17 Ah AGM; potentials of Bode, 1977), LOQS model,
  discharge at C/100. Its state of charge is that of the C/100 capacity; usable 0 % is the end of a C/10 discharge, at 0.2
  of the table, so the lower fifth becomes a negative usable state of charge.
* zinc: illustrative nickel-zinc curve between 1.60 and 1.80 V (general knowledge, no cell measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOC_MIN = -0.3
SOC_MAX = 1.1
_STEP = 0.001
_POINTS = round((SOC_MAX - SOC_MIN) / _STEP) + 1
_LEAD_ACID_EMPTY = 0.2

_LFP_SOC = (
    0.0, 0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40,
    0.50, 0.60, 0.65, 0.70, 0.75, 0.80, 0.90, 0.95, 0.98,
)  # fmt: skip
_LFP_V = (
    2.0000, 2.7508, 2.8730, 3.0502, 3.1894, 3.2109, 3.2307, 3.2514, 3.2672, 3.2897,
    3.2994, 3.3031, 3.3055, 3.3087, 3.3140, 3.3249, 3.3418, 3.3440, 3.3480,
)  # fmt: skip
_LFP_FULL = ((1.0, 3.375), (1.02, 3.48), (SOC_MAX, 4.2))
"""The adapted end: full at 3.375 V, then the steep rise of an overcharged cell."""

_LEAD_ACID_V = (
    1.7500, 1.8533, 1.8972, 1.9237, 1.9443, 1.9622, 1.9785, 1.9938, 2.0085, 2.0225, 2.0363,
    2.0498, 2.0631, 2.0762, 2.0892, 2.1020, 2.1147, 2.1270, 2.1395, 2.1520, 2.1645,
)  # fmt: skip
"""At 0, 0.05 ... 1 of the C/100 capacity."""

_ZINC = (
    (-0.05, 1.0), (0.0, 1.50), (0.05, 1.585), (0.10, 1.615), (0.30, 1.650), (0.50, 1.675), (0.70, 1.700), (0.90, 1.740),
    (1.0, 1.780), (SOC_MAX, 2.1),
)  # fmt: skip


def _lfp() -> tuple[list[float], list[float]]:
    ends = [(SOC_MIN, 0.2), (-0.02, 1.0)]
    points = [*ends, *zip(_LFP_SOC, _LFP_V, strict=True), *_LFP_FULL]
    return [soc for soc, _ in points], [volt for _, volt in points]


def _lead_acid() -> tuple[list[float], list[float]]:
    usable = [(index / 20 - _LEAD_ACID_EMPTY) / (1 - _LEAD_ACID_EMPTY) for index in range(len(_LEAD_ACID_V))]
    return [SOC_MIN, *usable, SOC_MAX], [1.2, *_LEAD_ACID_V, 2.21]


def _zinc() -> tuple[list[float], list[float]]:
    points = [(SOC_MIN, 0.2), *_ZINC]
    return [soc for soc, _ in points], [volt for _, volt in points]


CHEMISTRIES = ("lfp", "lead_acid", "zinc")
"""Known chemistries, in the order of the rows of `table()`."""


def table() -> NDArray[np.float64]:
    """Voltages on a uniform grid of SOC_MIN to SOC_MAX, one row per chemistry."""
    grid = np.linspace(SOC_MIN, SOC_MAX, _POINTS)
    return np.vstack([np.interp(grid, soc, volt) for soc, volt in (_lfp(), _lead_acid(), _zinc())])


class OpenCircuit:
    """Open-circuit voltages of many cells at once; a state of charge outside the grid takes the value at its end."""

    def __init__(self, chemistry_rows: NDArray[np.int64]) -> None:
        """`chemistry_rows`: per cell, the index of its chemistry in CHEMISTRIES."""
        self._flat = table().ravel()
        self._rise = np.diff(self._flat, append=0.0)
        self._offset = chemistry_rows * _POINTS

    def __call__(self, soc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Volts per cell at `soc` (1.0 = full)."""
        position = np.clip((soc - SOC_MIN) * (1.0 / _STEP), 0.0, _POINTS - 1.001)
        cell = position.astype(np.int64)
        index = cell + self._offset
        return self._flat[index] + (position - cell) * self._rise[index]
