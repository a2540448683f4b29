"""Decoded images on disk: the same pixels and batches as without, whoever shares the folder."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from semiseg.config import compose_config
from semiseg.config.resolvers import without_effect
from semiseg.config.settings import read_settings, stored_settings
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.data.datasets.camvid import CamVid
from semiseg.data.datasets.folder import Folder
from semiseg.data.datasets.shapes import Shapes
from semiseg.data.loading.datamodule import SemiDataModule
from semiseg.data.loading.image_cache import ImageCache
from semiseg.data.views.transforms import TrainViews
from semiseg.errors import InputError
from support.dataset_files import save, truncate, write_camvid


@pytest.fixture
def camvid(tmp_path: Path) -> CamVid:
    return CamVid(write_camvid(tmp_path / "camvid"))


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def module(dataset: CamVid, scale: tuple[float, float], **options: object) -> SemiDataModule:
    train, val = dataset.ids("train"), dataset.ids("val")
    views = TrainViews(8, scale=scale)
    fixed = {"view_spec": ViewSpec(strong=2), "batch_labeled": 2, "batch_unlabeled": 2, "seed": 0}
    return SemiDataModule(dataset, train[:3], train[3:], val, views, **fixed, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [(0.5, 2.0), (1.0, 1.0)], ids=["resized", "as it is"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_plain_road(camvid, tmp_path, scale, workers) -> None:
    def batches(**options: object) -> list[SemiBatch]:
        data = module(camvid, scale, **options)
        try:
            return list(itertools.islice(data.train_dataloader(), 6))
        finally:
            data.close()

    plain, folder = batches(), tmp_path / "cache"
    for _ in ("written", "found"):
        for a, b in zip(plain, batches(cache=folder, num_workers=workers), strict=True):
            assert a.ids == b.ids
            for x, y in ((a.labeled, b.labeled), (a.labels, b.labels), (a.unlabeled.strong, b.unlabeled.strong)):
                assert torch.equal(x, y)
    assert len(entries(folder)) == 6 and all(path.suffix == ".npy" for path in entries(folder))


def test_an_image_is_mapped_and_is_not_decoded_again(camvid, tmp_path, monkeypatch) -> None:
    cache, image_id = ImageCache(tmp_path / "cache"), camvid.ids("train")[0]
    image = camvid.load_image(image_id)
    np.testing.assert_array_equal(cache.image(camvid, image_id), image)
    monkeypatch.setattr(CamVid, "load_image", None)
    again = cache.image(camvid, image_id)
    np.testing.assert_array_equal(again, image)
    assert isinstance(again.base, np.memmap) and not again.flags.writeable


def test_a_changed_file_is_decoded_again(camvid, tmp_path) -> None:
    cache, image_id = ImageCache(tmp_path / "cache"), camvid.ids("train")[0]
    before = cache.image(camvid, image_id)
    path = camvid.image_file(image_id)
    was = path.stat()
    changed = save(path, 255 - before)
    os.utime(changed, ns=(was.st_atime_ns, was.st_mtime_ns + 1))  # the clock may be too coarse to tell
    np.testing.assert_array_equal(cache.image(camvid, image_id), 255 - before)


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no")])
def test_a_broken_entry_is_made_anew(camvid, tmp_path, damage) -> None:
    cache, image_id = ImageCache(tmp_path / "cache"), camvid.ids("train")[0]
    image = camvid.load_image(image_id)
    for _ in range(2):
        np.testing.assert_array_equal(cache.image(camvid, image_id), image)
        (entry,) = entries(cache.folder)
        damage(entry)


def write_gray_photos(root: Path, high: int, dtype: type) -> None:
    """Four images with values below ``high``, and their masks."""
    rng = np.random.default_rng(0)
    for k in range(4):
        save(root / "images" / f"{k}.png", rng.integers(0, high, (8, 8), dtype=dtype))
        save(root / "masks" / f"{k}.png", rng.integers(0, 2, (8, 8), dtype=np.uint8))
    (root / "classes.yaml").write_text("[a, b]\n")


def test_wide_values_are_kept_by_their_range(tmp_path) -> None:
    write_gray_photos(tmp_path / "d", 60_000, np.uint16)
    cache = ImageCache(tmp_path / "cache")
    for ends in ([0, 60_000], [0, 1_000]):
        dataset = Folder(tmp_path / "d", range=ends)
        np.testing.assert_array_equal(cache.image(dataset, "0"), dataset.load_image("0"))
    assert len(entries(cache.folder)) == 2


def test_numbers_of_channels_are_kept_apart(tmp_path) -> None:
    write_gray_photos(tmp_path / "d", 256, np.uint8)
    cache = ImageCache(tmp_path / "cache")
    for channels in (1, 3, 1):
        image = cache.image(dataset := Folder(tmp_path / "d", channels=channels), "0")
        assert image.shape == (8, 8, channels)
        np.testing.assert_array_equal(image, dataset.load_image("0"))
    assert len(entries(cache.folder)) == 2


def test_images_that_are_not_files_are_not_kept(tmp_path) -> None:
    cache, shapes = ImageCache(tmp_path / "cache"), Shapes(size=(16, 16), n_train=2, n_val=1, n_test=1)
    image_id = shapes.ids("train")[0]
    np.testing.assert_array_equal(cache.image(shapes, image_id), shapes.load_image(image_id))
    assert not entries(cache.folder)


def fill(root: Path, folder: Path) -> bool:
    dataset, cache = CamVid(root), ImageCache(folder)
    return all((cache.image(dataset, i) == dataset.load_image(i)).all() for i in 3 * dataset.ids("train"))


def test_processes_share_a_folder(camvid, tmp_path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        jobs = [pool.submit(fill, camvid.root, tmp_path / "cache") for _ in range(3)]
        assert all(job.result() for job in jobs)
    assert len(entries(tmp_path / "cache")) == 6


def test_what_a_killed_process_left_is_not_read(camvid, tmp_path) -> None:
    cache, image_id = ImageCache(tmp_path / "cache"), camvid.ids("train")[0]
    cache.image(camvid, image_id)
    (entry,) = entries(cache.folder)
    entry.rename(entry.with_name("half.part"))
    np.testing.assert_array_equal(cache.image(camvid, image_id), camvid.load_image(image_id))


def test_errors_are_those_of_the_reader(camvid, tmp_path) -> None:
    cache, image_id = ImageCache(tmp_path / "cache"), camvid.ids("train")[0]
    truncate(camvid.image_file(image_id))
    with pytest.raises(InputError, match=f"{image_id}.png: cannot be read as an image"):
        cache.image(camvid, image_id)
    assert not entries(cache.folder)
    camvid.image_file(image_id).unlink()
    with pytest.raises(InputError, match=f"{image_id}.png: no such file"):
        cache.image(camvid, image_id)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match=r"loader.cache=.*file: not a writable folder"):
        module(camvid, (1.0, 1.0), cache=blocked)


def test_a_folder_that_cannot_be_written_is_named(camvid, tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    cache = ImageCache(tmp_path / "cache")
    with pytest.raises(InputError, match=r"loader.cache=.*: cannot be written to \(No space left on device\)"):
        cache.image(camvid, camvid.ids("train")[0])
    assert not entries(cache.folder), "nothing half-written stays"


def test_the_folder_is_no_part_of_a_run_and_stays_its_owners(tmp_path) -> None:
    assert without_effect("loader.cache")
    config = read_settings(compose_config([f"loader.cache='{tmp_path}'"]))
    assert config.loader.cache == str(tmp_path) and compose_config([]).loader.cache is False
    assert stored_settings(config.stored).loader.cache is False
    assert stored_settings(config.stored, ["loader.cache=true"]).loader.cache is True
    with pytest.raises(InputError, match=r"loader\.cache"):
        read_settings(compose_config(["loader.cache=''"]))
