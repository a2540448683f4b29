from __future__ import annotations

import math

import pytest
import torch
import torch.multiprocessing as mp
from torchmetrics.classification import MulticlassJaccardIndex

from semiseg.errors import InputError
from semiseg.metrics.confusion import ConfusionMatrix, Scores


def random_batch(classes: int, *, seed: int = 0, ignored: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    pred = torch.randint(classes, (2, 7, 9), generator=g)
    target = torch.randint(classes, (2, 7, 9), generator=g)
    target[torch.rand(target.shape, generator=g) < ignored] = 255
    return pred, target


def scores(classes: int, *batches: tuple[torch.Tensor, torch.Tensor]) -> Scores:
    metric = ConfusionMatrix(classes)
    for pred, target in batches:
        metric.update(pred, target)
    return metric.compute()


def loop(pred: torch.Tensor, target: torch.Tensor, classes: int) -> list[list[int]]:
    matrix = [[0] * classes for _ in range(classes)]
    for p, t in zip(pred.flatten().tolist(), target.flatten().tolist(), strict=True):
        if t != 255:
            matrix[t][p] += 1
    return matrix


def test_by_hand() -> None:
    pred = torch.tensor([[[0, 0, 1, 1, 2]]])
    target = torch.tensor([[[0, 1, 1, 255, 255]]])
    result = scores(3, (pred, target))
    assert result.iou[:2] == (1 / 2, 1 / 2)
    assert math.isnan(result.iou[2])
    assert (result.miou, result.classes_counted) == (1 / 2, 2)
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.precision[:2] == (1 / 2, 1)
    assert result.recall[:2] == (1, 1 / 2)


@pytest.mark.parametrize("classes", [1, 2, 5, 21])
def test_counts_equal_a_loop(classes: int) -> None:
    pred, target = random_batch(classes)
    metric = ConfusionMatrix(classes)
    metric.update(pred, target)
    assert metric.matrix.tolist() == loop(pred, target, classes)


@pytest.mark.parametrize("classes", [2, 5, 21])
def test_iou_equals_torchmetrics(classes: int) -> None:
    pred, target = random_batch(classes)
    kwargs = {"num_classes": classes, "ignore_index": 255}
    result = scores(classes, (pred, target))
    per_class = MulticlassJaccardIndex(average="none", **kwargs)(pred, target)
    assert result.miou == pytest.approx(MulticlassJaccardIndex(average="macro", **kwargs)(pred, target).item())
    assert result.iou == pytest.approx(per_class.tolist())


def test_absent_class_is_left_out_of_the_mean() -> None:
    pred, target = random_batch(5)
    wider = scores(8, (pred, target))
    assert wider.miou == scores(5, (pred, target)).miou
    assert wider.classes_counted == 5
    assert all(math.isnan(x) for x in wider.iou[5:])
    oracle = MulticlassJaccardIndex(num_classes=8, ignore_index=255, average="macro")(pred, target)
    assert wider.miou == pytest.approx(oracle.item())


def test_predicted_but_never_labeled_counts_as_zero() -> None:
    result = scores(2, (torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]])))
    assert result.iou == (1 / 2, 0)
    assert result.classes_counted == 2
    assert math.isnan(result.recall[1])


def test_all_ignored_is_undefined_not_zero() -> None:
    pred, target = random_batch(3)
    result = scores(3, (pred, torch.full_like(target, 255)))
    assert math.isnan(result.miou)
    assert math.isnan(result.accuracy)
    assert result.classes_counted == 0


def test_updates_add_up_and_reset_forgets() -> None:
    first, second = random_batch(4, seed=1), random_batch(4, seed=2)
    joined = tuple(torch.cat(x) for x in zip(first, second, strict=True))
    metric = ConfusionMatrix(4)
    metric.update(*first)
    metric.update(*second)
    assert metric.compute() == scores(4, joined)
    metric.reset()
    assert metric.matrix.sum() == 0
    metric.update(*first)
    assert metric.compute() == scores(4, first)


def test_the_order_of_pixels_does_not_matter() -> None:
    pred, target = random_batch(4)
    order = torch.randperm(pred.numel(), generator=torch.Generator().manual_seed(0))
    shuffled = (pred.flatten()[order].view_as(pred), target.flatten()[order].view_as(target))
    assert scores(4, shuffled) == scores(4, (pred, target))


def test_small_integer_types_do_not_overflow() -> None:
    pred, target = random_batch(21)
    assert scores(21, (pred.byte(), target.byte())) == scores(21, (pred, target))


@pytest.mark.parametrize(("pred", "target"), [(0, 3), (0, 254), (0, -1), (3, 0), (-1, 0)])
def test_wrong_values_are_reported_and_touch_no_cell(pred: int, target: int) -> None:
    metric = ConfusionMatrix(3)
    metric.update(torch.tensor([[[pred, 1]]]), torch.tensor([[[target, 1]]]))
    assert metric.matrix.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    with pytest.raises(InputError, match="1 pixels have a label that is neither"):
        metric.compute()
    metric.reset()
    metric.update(torch.tensor([[[1]]]), torch.tensor([[[1]]]))
    assert metric.compute().accuracy == 1


@pytest.mark.parametrize(
    "pred", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.long)]
)
def test_logits_and_other_shapes_are_refused(pred: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="class indices of the same shape"):
        ConfusionMatrix(3).update(pred, torch.zeros(1, 4, 4, dtype=torch.long))


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"num_classes": 3, "ignore": 2}])
def test_bad_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError):
        ConfusionMatrix(**arguments)


def sync(rank: int, rendezvous: str, batch: tuple[torch.Tensor, torch.Tensor], expected: Scores) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    mine, idle = ConfusionMatrix(3), ConfusionMatrix(3)
    mine.update(batch[0][rank : rank + 1], batch[1][rank : rank + 1])
    if rank == 0:  # the other process has seen no image, as happens with few of them
        idle.update(*batch)
    assert mine.compute() == expected
    assert idle.compute() == expected
    torch.distributed.destroy_process_group()


@pytest.mark.ddp
def test_processes_are_summed(tmp_path) -> None:
    batch = random_batch(3)
    arguments = (str(tmp_path / "rendezvous"), batch, scores(3, batch))
    mp.start_processes(sync, arguments, nprocs=2, start_method="fork")
