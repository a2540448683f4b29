from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from semiseg.data.batch import LabeledBatch, SemiBatch, ViewSpec
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.loading.collate import EvalBatch
from semiseg.data.loading.datamodule import SemiDataModule
from semiseg.data.views.transforms import TrainViews
from semiseg.errors import InputError

LABELED = [f"l{k}" for k in range(3)]
UNLABELED = [f"u{k}" for k in range(7)]
VAL = [f"v{k}" for k in range(5)]


class Drawn(SegmentationDataset):
    """Noise images, all from their id. Masks of unlabeled images raise when they are opened."""

    name = "drawn"
    classes = ("a", "b", "c", "d")
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    broken = ""
    without_mask = "u"

    def __init__(self) -> None:
        self.loads: list[str] = []

    def ids(self, split: str) -> list[str]:
        return {"train": LABELED + UNLABELED, "val": VAL}[split]

    def load_image(self, image_id: str) -> np.ndarray:
        if image_id == self.broken:
            raise InputError(f"images/{image_id}.png cannot be read: expected an image file")
        assert cv2.getNumThreads() == 1, "OpenCV must not start threads of its own"
        self.loads.append(image_id)
        return self._rng(image_id).integers(0, 256, (*self._size(image_id), 3), dtype=np.uint8)

    def load_mask(self, image_id: str) -> np.ndarray:
        assert not image_id.startswith(self.without_mask), f"the mask of {image_id} was opened"
        self.loads.append(f"{image_id} mask")
        return self.load_image_red(image_id) // 64

    def load_image_red(self, image_id: str) -> np.ndarray:
        return self._rng(image_id).integers(0, 256, (*self._size(image_id), 3), dtype=np.uint8)[..., 0]

    def has_mask(self, image_id: str) -> bool:
        return not image_id.startswith(self.without_mask)

    def locate(self, image_id: str) -> str:
        return f"images/{image_id}.png"

    def _rng(self, image_id: str) -> np.random.Generator:
        return np.random.default_rng(ord(image_id[0]) * 100 + int(image_id[1:]))

    def _size(self, image_id: str) -> tuple[int, int]:
        return (20, 30) if int(image_id[1:]) % 3 else (24, 18)


def module(dataset: SegmentationDataset | None = None, **changes) -> SemiDataModule:
    options = {
        "view_spec": ViewSpec(strong=2),
        "batch_labeled": 2,
        "batch_unlabeled": 3,
        "seed": 5,
        "views": TrainViews(16),
        "labeled": LABELED,
        "unlabeled": UNLABELED,
        "val_ids": VAL,
    } | changes
    lists = [options.pop(name) for name in ("labeled", "unlabeled", "val_ids", "views")]
    made = SemiDataModule(dataset or Drawn(), *lists, **options)
    MADE.append(made)
    return made


MADE: list[SemiDataModule] = []


@pytest.fixture(autouse=True)
def _no_workers_are_left():
    yield
    while MADE:
        MADE.pop().close()


def test_partly_labeled_images_learn_from_their_blank_pixels() -> None:
    """An id of both lists: what its mask shows is left out of the unlabeled side as padding is, the rest is not."""

    class PartlyLabeled(Drawn):
        def load_mask(self, image_id: str) -> np.ndarray:
            mask = super().load_mask(image_id).copy()
            mask[:, ::2] = 255
            return mask

    data, plain = (module(d, unlabeled=LABELED, hidden_truth=True) for d in (PartlyLabeled(), Drawn()))
    for partly, full in zip(take(data, 3), take(plain, 3)):
        learned = ~partly.unlabeled.padded
        assert learned.any() and (partly.unlabeled.truth[learned] == 255).all()
        assert full.unlabeled.padded.all()  # nothing is left of a whole mask
        outside = (full.unlabeled.truth == 255) & ~learned
        assert torch.equal(learned | outside, partly.unlabeled.truth == 255)
        assert torch.equal(partly.unlabeled.strong, full.unlabeled.strong)  # the same draws


def tensors(batch: object) -> list[Tensor | list[str]]:
    """Every tensor and id of a batch, flat."""
    if not dataclasses.is_dataclass(batch):
        return [] if batch is None else [batch]
    return [leaf for f in dataclasses.fields(batch) for leaf in tensors(getattr(batch, f.name))]


def assert_same(a: SemiBatch, b: SemiBatch) -> None:
    for x, y in zip(tensors(a), tensors(b), strict=True):
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y


def take(data: SemiDataModule, n: int) -> list[SemiBatch]:
    return list(itertools.islice(data.train_dataloader(), n))


# -- training batches ---------------------------------------------------------------------------------------


def test_a_batch_is_uint8_until_it_is_on_the_device():
    (batch,) = take(module(), 1)
    assert batch.labeled.shape == (2, 3, 16, 16) and batch.labeled.dtype == torch.uint8
    assert batch.labels.shape == (2, 16, 16) and batch.labels.dtype == torch.uint8
    views = batch.unlabeled
    assert views.weak.shape == (3, 3, 16, 16) and views.weak.dtype == torch.uint8
    assert views.strong.shape == (2, 3, 3, 16, 16) and views.strong.dtype == torch.uint8
    assert views.padded.shape == (3, 16, 16) and views.padded.dtype == torch.bool
    assert views.boxes.shape == (2, 3, 1, 4) and views.boxes.dtype == torch.int64
    assert views.class_scores.shape == (2, 3, 4) and views.class_scores.dtype == torch.float32
    assert views.truth is None and batch.partner is None
    assert set(batch.ids) <= set(LABELED) and set(views.ids) <= set(UNLABELED)


def test_everything_moves_to_the_device():
    meta = torch.device("meta")
    data = module(view_spec=ViewSpec(strong=2, partner="same_image"), eval_batch=3)
    batch = data.transfer_batch_to_device(take(data, 1)[0], meta, 0)
    groups = data.transfer_batch_to_device(next(iter(data.val_dataloader())), meta, 0)
    moved = [leaf for part in (batch, *groups) for leaf in tensors(part) if isinstance(leaf, Tensor)]
    assert len(moved) == 2 + 5 + 5 + 2 * len(groups)
    assert all(tensor.device == meta for tensor in moved)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalization_against_its_formula(channels_last):
    data = module(channels_last=channels_last)
    (raw,), (batch,) = take(data, 1), take(data, 1)
    batch = data.on_after_batch_transfer(batch, 0)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (Drawn.mean, Drawn.std))
    for before, after in (
        (raw.labeled, batch.labeled),
        (raw.unlabeled.weak, batch.unlabeled.weak),
        (raw.unlabeled.strong, batch.unlabeled.strong),
    ):
        torch.testing.assert_close(after, (before / 255 - mean) / std)
        image = after if after.ndim == 4 else after[1]
        expected = torch.channels_last if channels_last else torch.contiguous_format
        assert image.is_contiguous(memory_format=expected)
    assert batch.labels.dtype == torch.int64
    assert torch.equal(batch.labels, raw.labels.long())


def test_images_and_their_labels_belong_together():
    # The mask is the red channel in four levels, and at scale 1 no pixel is interpolated.
    data = module(views=TrainViews(16, scale=(1, 1)))
    for batch in take(data, 4):
        inside = batch.labels != 255
        assert torch.equal(batch.labels[inside], batch.labeled[:, 0][inside] // 64)


@pytest.mark.parametrize("strong", [0, 1, 3])
def test_as_many_strong_views_as_asked(strong):
    data = module(view_spec=ViewSpec(strong=strong))
    batch = data.on_after_batch_transfer(take(data, 1)[0], 0)
    assert batch.unlabeled.strong.shape == (strong, 3, 3, 16, 16)
    assert batch.unlabeled.boxes.shape == (strong, 3, 1, 4)


def test_strong_views_belong_to_their_weak_view():
    plain = TrainViews(16, jitter_p=0, gray_p=0, blur_p=0)
    for batch in take(module(views=plain, view_spec=ViewSpec(strong=2, partner="other")), 3):
        for views in (batch.unlabeled, batch.partner):
            assert torch.equal(views.strong, torch.stack([views.weak] * 2))


def test_labeled_only():
    data = module(view_spec=None, unlabeled=[])
    batch = data.on_after_batch_transfer(take(data, 1)[0], 0)
    assert not data.needs_unlabeled
    assert type(batch) is LabeledBatch


def test_partner_of_the_same_image_has_another_augmentation():
    (batch,) = take(module(view_spec=ViewSpec(strong=1, partner="same_image")), 1)
    assert batch.partner.ids == batch.unlabeled.ids
    assert not torch.equal(batch.partner.weak, batch.unlabeled.weak)


def test_partner_from_another_draw():
    batches = take(module(view_spec=ViewSpec(strong=1, partner="other")), 4)
    assert any(batch.partner.ids != batch.unlabeled.ids for batch in batches)


def test_same_run_twice_other_seed_and_other_passes():
    first, again, other = take(module(), 4), take(module(), 4), take(module(seed=6), 4)
    for a, b in zip(first, again):
        assert_same(a, b)
    assert not torch.equal(first[0].unlabeled.weak, other[0].unlabeled.weak)
    views: dict[str, list[Tensor]] = {}
    for batch in first:
        for image_id, image in zip(batch.ids, batch.labeled):
            views.setdefault(image_id, []).append(image)
    assert all(len(seen) > 1 for seen in views.values())
    for seen in views.values():
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_batches_do_not_depend_on_the_number_of_workers():
    options = {"view_spec": ViewSpec(strong=2, partner="same_image")}
    state = torch.get_rng_state()
    batches = [take(module(num_workers=workers, **options), 6) for workers in (0, 2)]
    for alone, shared in zip(*batches):
        assert_same(alone, shared)
    # Consecutive batches come from different workers, and differ.
    assert not torch.equal(batches[1][0].unlabeled.class_scores, batches[1][1].unlabeled.class_scores)
    assert torch.equal(torch.get_rng_state(), state), "a loader must leave the global generator alone"


# -- masks of unlabeled images -----------------------------------------------------------------------------


def test_masks_of_unlabeled_images_are_never_opened():
    dataset = Drawn()  # raises when one is
    take(module(dataset, view_spec=ViewSpec(strong=1, partner="same_image")), 5)
    assert any(load.startswith("u") for load in dataset.loads)


def test_hidden_truth_is_aligned_with_the_weak_view():
    dataset = Drawn()
    dataset.without_mask = "-"
    spec = ViewSpec(strong=1, partner="other")
    data = module(dataset, hidden_truth=True, views=TrainViews(16, scale=(1, 1)), view_spec=spec)
    for batch in take(data, 3):
        assert batch.partner.truth is None
        views = batch.unlabeled
        assert (views.truth[views.padded] == 255).all()
        assert torch.equal(views.truth[~views.padded], (views.weak[:, 0] // 64)[~views.padded])
    assert data.on_after_batch_transfer(batch, 0).unlabeled.truth.dtype == torch.int64


def test_hidden_truth_of_an_image_without_a_mask_is_ignored():
    dataset = Drawn()
    dataset.without_mask = "u1"
    batches = take(module(dataset, hidden_truth=True), 4)
    truths = {i: t for b in batches for i, t in zip(b.unlabeled.ids, b.unlabeled.truth)}
    assert set(truths) == set(UNLABELED)
    assert (truths["u1"] == 255).all() and (truths["u2"] < 4).any()


# -- evaluation batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("eval_batch", [1, 2, 4, 50])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_each_validation_image_once_whole_and_grouped_by_size(eval_batch, num_workers):
    dataset = Drawn()
    data = module(dataset, eval_batch=eval_batch, num_workers=num_workers)
    seen = []
    for groups in data.val_dataloader():
        assert sum(len(group.ids) for group in groups) <= eval_batch
        assert len({group.images.shape[2:] for group in groups}) == len(groups)
        for group in groups:
            assert isinstance(group, EvalBatch) and group.images.dtype == torch.uint8
            for image_id, image, label in zip(group.ids, group.images, group.labels, strict=True):
                np.testing.assert_array_equal(image.permute(1, 2, 0), Drawn().load_image(image_id))
                np.testing.assert_array_equal(label, Drawn().load_mask(image_id))
                seen.append(image_id)
    assert sorted(seen) == VAL
    if num_workers == 0:
        assert sorted(dataset.loads) == sorted([*VAL, *(f"{v} mask" for v in VAL)])


def test_validation_is_normalized_on_the_device():
    data = module(eval_batch=3)
    (raw, *_), (groups, *_) = data.val_dataloader(), data.val_dataloader()
    for before, after in zip(raw, data.on_after_batch_transfer(groups, 0), strict=True):
        expected = (before.images / 255 - torch.tensor(Drawn.mean).view(3, 1, 1)) / torch.tensor(Drawn.std).view(
            3, 1, 1
        )
        torch.testing.assert_close(after.images, expected)
        assert after.labels.dtype == torch.int64 and after.ids == before.ids


# -- memory, errors, counts ---------------------------------------------------------------------------------


def test_the_cache_loads_each_file_once_and_changes_nothing():
    dataset = Drawn()
    kept = module(dataset, cache=True)
    for a, b in zip(take(kept, 8), take(module(), 8)):
        assert_same(a, b)
    for _ in range(2):
        list(kept.val_dataloader())
    assert len(dataset.loads) == len(set(dataset.loads))


def test_a_mask_of_another_size_names_the_image():
    class Mismatched(Drawn):
        def load_mask(self, image_id: str) -> np.ndarray:
            return super().load_mask(image_id)[:-1]

    with pytest.raises(InputError, match=r"images/l\d.png: the mask has (19|23)x\d+ pixels, its image (20|24)x"):
        take(module(Mismatched()), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labeled": []}, "the labeled list of drawn is empty"),
        ({"unlabeled": []}, "the unlabeled list of drawn is empty"),
        ({"val_ids": []}, "the val list of drawn is empty"),
        ({"batch_labeled": 0}, "batch.labeled is 0"),
        ({"batch_unlabeled": -1}, "batch.unlabeled is -1"),
        ({"eval_batch": 0}, "eval_batch is 0"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        module(**changes)


# -- under a trainer ----------------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    """Trains one number and writes down which batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[SemiBatch] = []
        self.val_ids: list[str] = []
        self.val_steps: list[int] = []

    def training_step(self, batch: SemiBatch, batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return (self.weight - batch.labeled.mean() - batch.unlabeled.strong.mean()) ** 2

    def validation_step(self, batch: list[EvalBatch], batch_idx: int) -> None:
        for group in batch:
            assert group.images.dtype == torch.float32
            self.val_ids += group.ids

    def on_validation_start(self) -> None:
        self.val_steps.append(self.trainer.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(max_steps: int, **options) -> pl.Trainer:
    return pl.Trainer(
        max_steps=max_steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"val_check_interval": 2, "enable_checkpointing": False} | options),
    )


def fit(max_steps: int, *, ckpt=None, data: dict | None = None, **options) -> Recorder:
    recorder = Recorder()
    trainer(max_steps, **options).fit(recorder, datamodule=module(**(data or {})), ckpt_path=ckpt)
    return recorder


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_a_trainer_stops_at_its_step_and_validates_in_between():
    recorder = fit(4)
    assert recorder.trainer.global_step == 4 and len(recorder.batches) == 4
    assert recorder.val_steps == [2, 4]
    assert sorted(recorder.val_ids) == sorted(VAL * 2)
    for given, expected in zip(recorder.batches, take(module(), 4)):
        assert_same(given, module().on_after_batch_transfer(expected, 0))


@pytest.mark.parametrize("saved", ["by validation", "by step", "by hand"])
@pytest.mark.parametrize(("accumulate", "num_workers"), [(1, 0), (2, 0), (1, 2)])
def test_a_resumed_run_sees_the_batches_of_an_unbroken_one(tmp_path, saved, accumulate, num_workers):
    options = {
        "data": {"num_workers": num_workers},
        "accumulate_grad_batches": accumulate,
        "val_check_interval": 2 * accumulate,
    }
    unbroken = fit(5, **options)
    stop = 2 if saved == "by validation" else 3
    if saved == "by hand":
        first = fit(stop, **options)
        first.trainer.save_checkpoint(tmp_path / "last.ckpt")
    else:
        when = {} if saved == "by validation" else {"every_n_train_steps": 3}
        checkpoint = ModelCheckpoint(tmp_path, filename="last", **when)
        first = fit(stop, **options, callbacks=[checkpoint], enable_checkpointing=True)
    second = fit(5, **options, ckpt=str(tmp_path / "last.ckpt"))
    given = first.batches + second.batches
    assert len(first.batches) == stop * accumulate and len(given) == 5 * accumulate
    for a, b in zip(given, unbroken.batches, strict=True):
        assert_same(a, b)
    assert torch.equal(second.weight, unbroken.weight)
    assert set(first.val_steps + second.val_steps) == {2, 4}


@pytest.mark.parametrize(("broken", "num_workers"), [("u4", 0), ("u4", 1), ("v3", 0)])
def test_an_unreadable_image_stops_the_run_with_one_line(broken, num_workers):
    dataset = Drawn()
    dataset.broken = broken
    with pytest.raises(InputError) as error:
        fit(20, data={"dataset": dataset, "num_workers": num_workers})
    assert str(error.value) == f"images/{broken}.png cannot be read: expected an image file"


@pytest.mark.ddp
def test_two_ranks_validate_each_image_once_and_share_the_stream(tmp_path):
    class Writer(Recorder):
        def on_fit_end(self) -> None:
            seen = {"val": self.val_ids, "labeled": [b.ids for b in self.batches]}
            torch.save(seen, tmp_path / f"rank{self.trainer.global_rank}.pt")

    trainer(2, devices=2, strategy="ddp_fork").fit(Writer(), datamodule=module())
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    assert sorted(ranks[0]["val"] + ranks[1]["val"]) == VAL
    one = take(module(batch_labeled=4), 2)
    for step in range(2):
        assert ranks[0]["labeled"][step] + ranks[1]["labeled"][step] == one[step].ids
