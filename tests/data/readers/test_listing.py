"""What is found in folders, against the plain way of finding it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.data.datasets.mask_names import PATTERNS, fit
from semiseg.data.datasets.strays import find_strays
from semiseg.data.readers.images import is_wide, measure_range, read_samples
from semiseg.data.readers.listing import IMAGE_SUFFIXES, find_files, find_images, list_images
from semiseg.errors import InputError

NAMES = (
    "b.JPG", "a.png", "frame.0012.tif", "no_suffix", "notes.txt", ".hidden.png", "B/z.jpg", "B/a.jpeg", "b/1.png",
    "a.dir/2.png", "a.dir/deep/3.webp", ".git/4.png", "ü.png", "dots..png",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def visible(tree: Path) -> list[Path]:
    paths = [
        p for p in tree.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.relative_to(tree).parts)
    ]
    return sorted(paths, key=lambda path: (path.parent, path.name))


def test_files_and_images_in_the_order_of_their_paths(tree: Path) -> None:
    assert find_files(tree) == visible(tree)
    assert find_images(tree) == [path for path in visible(tree) if path.suffix.lower() in IMAGE_SUFFIXES]
    assert find_files(tree, wanted=lambda name: name.endswith(".txt")) == [tree / "notes.txt"]
    assert find_files(tree, recursive=False) == [path for path in visible(tree) if path.parent == tree]


@pytest.mark.parametrize("recursive", [True, False])
def test_ids_are_paths_without_suffix(tree: Path, recursive: bool) -> None:
    found = list_images(tree, recursive=recursive)
    images = [path for path in find_images(tree, recursive=recursive)]
    assert found == {path.relative_to(tree).with_suffix("").as_posix(): path for path in images}
    assert list(found) == sorted(found) and "frame.0012" in found


def test_two_files_of_one_id_and_names_that_are_no_text_are_refused(tree: Path) -> None:
    (tree / "B" / "z.png").touch()
    with pytest.raises(InputError, match=r"duplicate id: z.jpg and z.png in .*/B"):
        list_images(tree, recursive=True)
    (tree / "B" / "z.png").unlink()
    (tree / "B" / "caf\udce9.png").touch()  # Latin-1
    with pytest.raises(InputError, match=r"not UTF-8: .*/B/caf\\xe9.png"):
        list_images(tree, recursive=True)


def test_masks_are_paired_as_if_every_pattern_were_tried_on_every_photo() -> None:
    rng = np.random.default_rng(0)
    stems = ["a", "ab", "a_mask", "mask_a", "x/a", "x/mask_a", "a.b", ""]
    for _ in range(100):
        images = list(dict.fromkeys(rng.choice(stems, 5).tolist()))
        masks = {rng.choice(PATTERNS).replace("{stem}", str(stem)) for stem in rng.choice(["a", "ab", "a.b"], 4)}
        masks |= {f"x/{rng.choice(PATTERNS).replace('{stem}', 'a')}"}

        def plain(pattern: str, images: list[str] = images, masks: set[str] = masks) -> dict[str, str]:
            named = {}
            for image_id in images:
                folder, slash, stem = image_id.rpartition("/")
                named[image_id] = folder + slash + pattern.replace("{stem}", stem)
            return {image_id: name for image_id, name in named.items() if name in masks}

        best = max(((plain(p), p) for p in PATTERNS), key=lambda pair: len(pair[0]))
        assert fit(images, masks) == best


def test_masks_that_fit_no_image_are_compared_by_letters_and_case(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    images = {name: tmp_path / f"{name}.jpg" for name in (composed, "Road", "road")}
    masks = {name: tmp_path / f"{name}.png" for name in (decomposed, "ROAD", "other")}
    lines = find_strays(tmp_path, tmp_path, images, masks)["masks that match no image"]
    assert [line.partition(": ")[2] for line in lines] == [
        "matches no image; Road.jpg differs in upper and lower case",
        f"matches no image; {composed}.jpg is the same name in another Unicode normalization",
        "matches no image",
    ]


@pytest.mark.parametrize(
    "mode,wide",
    [("1", False), ("L", False), ("LA", False), ("P", False), ("RGB", False), ("RGBA", False), ("I;16", True)],
)
def test_the_first_bytes_of_a_png_file_say_what_pillow_says(tmp_path: Path, mode: str, wide: bool) -> None:
    path = tmp_path / "image.png"
    Image.new(mode, (3, 2)).save(path)
    assert is_wide(path) is wide is (read_samples(path).dtype != np.uint8)
    path.write_bytes(path.read_bytes()[:20])
    assert not is_wide(path) and not is_wide(tmp_path / "none.png")


def test_a_range_is_measured_over_wide_images_alone(tmp_path: Path) -> None:
    paths = []
    for number in range(1200):  # more than a thread opens in one go
        paths.append(tmp_path / f"{number}.png")
        values = np.full((2, 2), 7 * number, np.uint16) if number % 400 == 399 else np.zeros((2, 2), np.uint8)
        Image.fromarray(values).save(paths[-1])
    assert measure_range(paths) == (7 * 399.0, 7 * 1199.0)
    assert measure_range(paths[:300]) is None
