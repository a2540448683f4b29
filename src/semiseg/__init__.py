"""semiseg: an experiment suite for semi-supervised semantic segmentation."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# albumentations looks for a newer version on the network when it is imported; nothing here may do that unasked.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# OpenMP threads that wait should sleep. Spinning, the default, slows a step many times over as soon as loader workers
# or other runs want the same cores. Read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
