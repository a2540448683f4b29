"""The overrides of a run of a second, said once."""

from __future__ import annotations

TINY = (
    "data.size=[48,48]", "data.n_train=16", "data.n_val=2", "protocol=shapes/1_8", "crop_size=[32,32]",
    "batch.labeled=2", "batch.unlabeled=2", "max_steps=2", "val_every=2", "trainer=debug", "loader.num_workers=0",
    "model.width=4",
)  # fmt: skip


def tiny(*overrides: str) -> list[str]:
    """The overrides of a tiny run with some replaced, or others added; ``key=`` alone leaves one out."""
    keys = {o.split("=", 1)[0] for o in overrides}
    return [*(o for o in TINY if o.split("=", 1)[0] not in keys), *(o for o in overrides if not o.endswith("="))]


OPTIONS = {
    "data.size": [48, 48], "data.n_train": 16, "data.n_val": 2, "protocol": "shapes/1_8", "crop_size": [32, 32],
    "batch.labeled": 2, "batch.unlabeled": 2, "val_every": 2, "trainer": "debug", "loader.num_workers": 0,
    "model.width": 4,
}  # fmt: skip
"""The same for the Python interface, without the number of steps."""


SHORT_QUEUES = ("method.contrast.queue_size=64", "method.contrast.first_queue_size=64")
SMALLER = {"u2pl": SHORT_QUEUES, "u2pl_released": SHORT_QUEUES}
"""Overrides of methods whose state is large: U2PL's queues are up to 31 MB a class, in every checkpoint."""
