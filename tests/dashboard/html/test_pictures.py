import base64
import io

import numpy as np
from PIL import Image

from semiseg.dashboard.html.pictures import MAX_ROWS, MAX_UNLABELED, pseudo_rows, thumbnails, validation_rows
from semiseg.dashboard.read.find import find_runs
from support.fake_runs import PALETTE, write_run


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def noise(path, size=(640, 480), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def shown(root):
    return {run.method: run for run in find_runs([root])}


def test_masks_keep_their_colors_and_pictures_become_small(tmp_path):
    mask = np.array(PALETTE, dtype=np.uint8)[np.random.default_rng(0).integers(0, 6, (300, 800))]
    path = tmp_path / "val_0_truth.png"
    Image.fromarray(mask).save(path)
    photo = noise(tmp_path / "val_0_image.png")
    uris = thumbnails([path, photo, path])
    small = opened(uris[path])
    assert (small.size, small.format) == ((320, 120), "PNG")
    assert set(map(tuple, np.asarray(small.convert("RGB")).reshape(-1, 3).tolist())) <= set(PALETTE)
    assert (opened(uris[photo]).size, opened(uris[photo]).format) == ((320, 240), "JPEG")


def test_small_images_are_not_enlarged(tmp_path):
    path = noise(tmp_path / "val_0_image.png", (40, 30))
    assert opened(thumbnails([path])[path]).size == (40, 30)


def test_many_images_shrink_until_they_fit_and_then_are_left_out(tmp_path):
    paths = [noise(tmp_path / f"val_{i}_image.png", seed=i) for i in range(4)]
    full = sum(len(uri) for uri in thumbnails(paths).values())
    smaller = thumbnails(paths, max_bytes=full // 2)
    assert list(smaller) == paths
    assert sum(len(uri) for uri in smaller.values()) <= full // 2
    few = thumbnails(paths, max_bytes=10_000)
    assert 0 < len(few) < 4
    assert thumbnails(paths, max_bytes=10) == {}


def test_what_is_no_image_is_left_out(tmp_path):
    good = noise(tmp_path / "val_0_image.png", (8, 8))
    bad = tmp_path / "val_1_image.png"
    bad.write_bytes(good.read_bytes()[:60])
    assert list(thumbnails([bad, tmp_path / "gone.png", good])) == [good]


def test_predictions_of_the_same_image_share_a_row(tmp_path):
    for method in ("supervised", "unimatch"):
        write_run(tmp_path, method, images=True, n_logged=2)
    rows = validation_rows(shown(tmp_path))
    assert len(rows) == 3
    assert all(set(row.predictions) == {"supervised", "unimatch"} for row in rows)


def test_predictions_of_different_images_do_not(tmp_path):
    for method in ("supervised", "unimatch"):
        folder = write_run(tmp_path, method, images=True, n_logged=2)
    noise(folder / "images" / "val_0_image.png")
    rows = validation_rows(shown(tmp_path))
    assert len(rows) == 4
    assert [len(row.predictions) for row in rows] == [2, 2, 1, 1]


def test_missing_parts_are_skipped(tmp_path):
    folder = write_run(tmp_path, "unimatch", images=True, n_logged=2) / "images"
    (folder / "val_0_prediction.png").unlink()
    (folder / "val_1_truth.png").unlink()
    (folder / "unlabeled_0_pseudo.png").unlink()
    (folder / "unlabeled_1_confidence.png").unlink()
    (folder / "notes.png").write_bytes(b"")
    rows = validation_rows(shown(tmp_path))
    assert [row.truth is None for row in rows] == [True, False]
    assert [list(row.parts) for row in pseudo_rows(shown(tmp_path))] == [
        ["image", "pseudo", "truth"],
        ["image", "pseudo", "confidence", "truth"],
    ]


def test_only_a_few_images_are_shown(tmp_path):
    folder = write_run(tmp_path, "unimatch", n_logged=2) / "images"
    folder.mkdir()
    for i in range(12):
        for name in (f"val_{i}_image", f"val_{i}_prediction", f"unlabeled_{i}_pseudo"):
            noise(folder / f"{name}.png", (4, 4), seed=i)
    rows = validation_rows(shown(tmp_path))
    assert [row.image.stem for row in rows] == [f"val_{i}_image" for i in range(MAX_ROWS)]
    assert len(pseudo_rows(shown(tmp_path))) == MAX_UNLABELED
