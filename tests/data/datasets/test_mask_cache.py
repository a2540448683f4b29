from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from semiseg.data.datasets.mask_cache import MaskCache
from semiseg.errors import InputError

MASK = np.array([[0, 7, 255], [80, 1, 0]], np.uint8)


def never() -> np.ndarray:
    raise AssertionError("made again")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.json"
    path.write_text("one")
    return path


def entries(cache: MaskCache) -> list[str]:
    return sorted(p.name for p in cache.folder.rglob("*") if p.is_file())


def test_the_same_mask_comes_back_and_is_not_made_again(tmp_path, source):
    np.testing.assert_array_equal(MaskCache(tmp_path / "a" / "b").get(source, "rule", MASK.copy), MASK)
    again = MaskCache(tmp_path / "a" / "b").get(source, "rule", never)
    np.testing.assert_array_equal(again, MASK)
    assert again.dtype == np.uint8 and again.flags.writeable


def test_a_changed_source_or_rule_is_another_entry(tmp_path, source):
    cache = MaskCache(tmp_path / "cache")
    cache.get(source, "rule", MASK.copy)
    np.testing.assert_array_equal(cache.get(source, "other rule", lambda: MASK + 1), MASK + 1)
    was = source.stat()
    os.utime(source, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    np.testing.assert_array_equal(cache.get(source, "rule", lambda: MASK + 2), MASK + 2)
    source.write_text("longer")
    os.utime(source, ns=(was.st_atime_ns, was.st_mtime_ns))
    np.testing.assert_array_equal(cache.get(source, "rule", lambda: MASK + 3), MASK + 3)
    twin = source.with_name("twin.json")
    twin.write_text("longer")
    os.utime(twin, ns=(was.st_atime_ns, was.st_mtime_ns))
    np.testing.assert_array_equal(cache.get(twin, "rule", lambda: MASK + 4), MASK + 4)
    assert len(entries(cache)) == 5


def test_a_broken_entry_is_made_anew(tmp_path, source):
    cache = MaskCache(tmp_path / "cache")
    cache.get(source, "rule", MASK.copy)
    (entry,) = cache.folder.rglob("*.png")
    entry.write_bytes(entry.read_bytes()[:20])
    np.testing.assert_array_equal(cache.get(source, "rule", MASK.copy), MASK)
    np.testing.assert_array_equal(cache.get(source, "rule", never), MASK)


def big(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 80, (300, 300), dtype=np.uint8)


def fill(folder, source) -> bool:
    cache = MaskCache(folder)
    return all((cache.get(source, f"{k}", lambda k=k: big(k)) == big(k)).all() for k in [*range(20)] * 2)


def test_two_processes_share_a_folder(tmp_path, source):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        jobs = [pool.submit(fill, tmp_path / "cache", source) for _ in range(2)]
        assert all(job.result() for job in jobs)
    names = entries(MaskCache(tmp_path / "cache"))
    assert len(names) == 20 and all(n.endswith(".png") for n in names)


def test_folder_that_cannot_be_one_and_missing_source(tmp_path, source):
    with pytest.raises(InputError, match=r"data.mask_cache=.*source.json: not a writable folder"):
        MaskCache(source)
    with pytest.raises(InputError, match=r"gone.json: no such file"):
        MaskCache(tmp_path / "cache").get(tmp_path / "gone.json", "rule", MASK.copy)
