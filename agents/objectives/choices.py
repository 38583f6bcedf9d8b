"""What a statistic of an objective may be, by name; apart from the tensor functions, so that no torch is loaded."""

from __future__ import annotations

from typing import Literal

Deviation = Literal["sample", "population"]
KLEstimator = Literal["k1", "k2", "k3"]
