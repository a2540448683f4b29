"""Labeled images only: the lower bound of every comparison."""

from __future__ import annotations

from semiseg.data.batch import LabeledBatch
from semiseg.methods.base import SemiMethod, StepOutput


class Supervised(SemiMethod):
    """Train only on the labeled images, weakly augmented.

    Strong augmentation of labeled images is omitted on purpose: the authors of ST++ and UniMatch report that it
    hurts. Use the same number of optimizer steps as the method it is compared with.
    """

    def step(self, batch: LabeledBatch) -> StepOutput:
        """Loss = CE | OHEM on the labeled batch."""
        loss = self.sup_loss(self.student(batch.labeled), batch.labels)
        return StepOutput(loss=loss, terms={"loss_sup": loss})
