"""Every reader against a small export in the form of its tool, and against what must be refused."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.class_file import read_class_file
from semiseg.data.labels.base import BLANK, Labels, Source
from semiseg.data.labels.detect import detect, read_labels
from semiseg.data.labels.importing import displayed_size
from semiseg.errors import InputError
from support.dataset_files import random_image, save

H, W = 12, 16
SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6]]  # 4 x 4 pixels, rows and columns 2..5


def photos(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        save(root / name, random_image(np.random.default_rng(number), H, W))
    return root


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def masks(labels: Labels) -> dict[str, np.ndarray]:
    return {image.photo.name: image.paint(displayed_size(image.photo)) for image in labels.images}


def read(root: Path, **options: Any) -> Labels:
    return read_labels(Source(root, options.pop("images", root)), **options)


def square(value: int, rest: int = BLANK) -> np.ndarray:
    mask = np.full((H, W), rest, np.uint8)
    mask[2:6, 2:6] = value
    return mask


def labelme(name: str = "a.jpg", shapes: Any = None, **more: Any) -> dict[str, Any]:
    shapes = [{"label": "tree", "points": SQUARE, "shape_type": "polygon"}] if shapes is None else shapes
    size = {"imageHeight": H, "imageWidth": W}
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, **size, **more}


def coco(**more: Any) -> dict[str, Any]:
    flat = [float(v) for point in SQUARE for v in point]
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "height": H, "width": W}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "segmentation": [flat], "bbox": [2, 2, 4, 4]}],
        "categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "tree"}],
        **more,
    }


def task(results: list[Any], image: str = "/data/upload/1/0a1b2c3d-a.jpg", **more: Any) -> dict[str, Any]:
    size = {"original_width": W, "original_height": H}
    annotations = [{"id": 1, "was_cancelled": False, "result": [{**size, **r} for r in results]}]
    return {"id": 5, "data": {"image": image}, "annotations": annotations, **more}


def percent(points: list[list[float]]) -> list[list[float]]:
    return [[100 * x / W, 100 * y / H] for x, y in points]


def brush(mask: np.ndarray, word: int = 8) -> list[int]:
    """The encoding of Label Studio's brush, in its simplest form: blocks of repeated and of single values."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4)
    bits = f"{len(values):032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 65536:
            end += 1
        if end - at > 4:
            bits += "1" + "11" + f"{end - at - 1:016b}" + f"{values[at]:0{word}b}"
        else:
            bits += "0" + "00" + f"{end - at - 1:03b}" + "".join(f"{v:0{word}b}" for v in values[at:end])
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_labelme_shapes_in_the_order_of_the_file(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg", "b.jpg")
    small = Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    shapes = [
        {"label": "tree", "points": SQUARE, "shape_type": "polygon"},
        {"label": "car", "points": [[4, 4], [6, 6]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "shape_type": "polygon"},
        {"label": "car", "points": [[9, 9], [10, 10]], "shape_type": "mask"},
        {"label": "car", "points": [[1, 1]], "shape_type": "point"},
    ]
    shapes[3]["mask"] = base64.b64encode(buffer.getvalue()).decode()
    write(tmp_path / "a.json", labelme(shapes=shapes))
    labels = read(tmp_path)
    expected = square(1)
    expected[4:6, 4:6] = 0
    expected[0, 0] = IGNORE
    expected[9, 10] = expected[10, 9:11] = 0
    assert labels.classes == ("car", "tree")
    np.testing.assert_array_equal(masks(labels)["a.jpg"], expected)
    assert labels.notes == ("1 points have no area: skipped",)


def test_labelme_beside_a_folder_of_photos(tmp_path: Path) -> None:
    photos(tmp_path, "photos/a.jpg", "other/a.jpg")
    write(tmp_path / "json" / "a.json", labelme("..\\photos\\a.jpg"))
    assert read(tmp_path).images[0].photo == tmp_path / "photos" / "a.jpg"


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "C:\\a.jpg", "x/../../a.jpg", "\\\\host\\a.jpg"])
@pytest.mark.parametrize("kind", ["labelme", "coco"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    photos(tmp_path, "inner/a.jpg")
    photos(tmp_path, "a.jpg")
    picture = {"id": 7, "file_name": name}
    write(tmp_path / "inner" / "a.json", labelme(name) if kind == "labelme" else coco(images=[picture]))
    with pytest.raises(InputError, match=r"a.json: names the image .* is not below"):
        read(tmp_path / "inner")


def test_coco_polygons_and_both_run_length_codes(tmp_path: Path) -> None:
    from pycocotools import mask as tool

    photos(tmp_path, "images/a.jpg")
    runs = {"size": [H, W], "counts": [0, 2, H * W - 2]}
    packed = tool.encode(np.asfortranarray(square(1, 0)))
    packed["counts"] = packed["counts"].decode()
    first, box = coco()["annotations"][0], {"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}
    more = [
        {"image_id": 7, "category_id": 1, "segmentation": runs, "iscrowd": 1},
        {"image_id": 7, "category_id": 1, "segmentation": packed, "iscrowd": 1},
        {**box, "segmentation": []},
    ]
    write(tmp_path / "annotations" / "instances_default.json", coco(annotations=[first, *more]))
    labels = read(tmp_path)
    expected = square(0)
    expected[:2, 0] = 0  # column by column
    assert labels.classes == ("road", "tree")
    np.testing.assert_array_equal(masks(labels)["a.jpg"], expected)
    assert labels.notes == ("1 objects have a box but no outline: skipped",)


def test_coco_of_roboflow(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "plants", "supercategory": "none"},
        {"id": 2, "name": "tree", "supercategory": "plants"},
    ]
    for split in ("train", "valid"):
        photos(tmp_path, f"{split}/a.jpg")
        write(tmp_path / split / "_annotations.coco.json", coco(categories=categories))
    labels = read(tmp_path)
    assert labels.classes == ("tree",)
    assert [image.photo.parent.name for image in labels.images] == ["train", "valid"]


@pytest.mark.parametrize("names", ["names: [road, tree]", "names: {0: road, 1: tree}\ntrain: ../nowhere"])
def test_yolo(tmp_path: Path, names: str) -> None:
    photos(tmp_path, "images/train/a.jpg", "images/train/b.jpg", "images/train/c.jpg")
    corners = " ".join(f"{x / W} {y / H}" for x, y in SQUARE)
    write(tmp_path / "labels" / "train" / "a.txt", f"1 {corners}\n0 0.5 0.5 0.1 0.1\n")
    write(tmp_path / "labels" / "train" / "b.txt", "")
    write(tmp_path / "data.yaml", names)
    labels = read(tmp_path)
    assert labels.classes == ("road", "tree")
    painted = masks(labels)
    np.testing.assert_array_equal(painted["a.jpg"], square(1))
    assert (painted["b.jpg"] == BLANK).all() and "c.jpg" not in painted
    assert labels.notes == ("1 objects have a box but no outline: skipped",)


def test_yolo_names_in_a_text_file(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg")
    write(tmp_path / "a.txt", "0 " + " ".join(f"{x / W} {y / H}" for x, y in SQUARE))
    with pytest.raises(InputError, match=r"no class names for the YOLO labels; put data.yaml or classes.txt"):
        read(tmp_path)
    write(tmp_path / "classes.txt", "tree\n")
    np.testing.assert_array_equal(masks(read(tmp_path))["a.jpg"], square(0))


def test_label_studio_polygon_rectangle_and_brush(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg", "b.jpg")
    painted = np.zeros((H, W), bool)
    painted[8:10, 3:7] = True
    corner = {"x": 100 * 10 / W, "y": 0, "width": 100 * 2 / W, "height": 100 * 2 / H, "rotation": 0}
    results = [
        {"type": "polygonlabels", "value": {"points": percent(SQUARE), "polygonlabels": ["tree"]}},
        {"type": "rectanglelabels", "value": {**corner, "rectanglelabels": ["road"]}},
        {"type": "brushlabels", "value": {"format": "rle", "rle": brush(painted), "brushlabels": ["car"]}},
        {"type": "choices", "value": {"choices": ["sunny"]}},
    ]
    write(tmp_path / "export.json", [task(results), {"id": 6, "data": {"image": "s3://x/b.jpg"}, "annotations": []}])
    labels = read(tmp_path)
    expected = square(2)
    expected[0:2, 10:12] = 1
    expected[painted] = 0
    assert labels.classes == ("car", "road", "tree")
    np.testing.assert_array_equal(masks(labels)["a.jpg"], expected)
    assert list(masks(labels)) == ["a.jpg"]


def test_label_studio_short_form_and_png_files(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg", "b.jpg")
    size = {"original_width": W, "original_height": H}
    region = {"points": percent(SQUARE), "polygonlabels": ["tree"], **size}
    short = [
        {"id": 5, "image": "/data/local-files/?d=some/a.jpg", "label": [region]},
        {"id": 6, "image": "https://x/b.jpg?a=1"},
    ]
    save(tmp_path / "task-6-annotation-3-by-1-tag-car-0.png", square(255, 0))
    with pytest.raises(InputError, match="export JSON-MIN too"):
        read(tmp_path)
    write(tmp_path / "short.json", short)
    labels = read(tmp_path)
    assert labels.classes == ("car", "tree")
    np.testing.assert_array_equal(masks(labels)["a.jpg"], square(1))
    np.testing.assert_array_equal(masks(labels)["b.jpg"], square(0))
    assert [path.name for path in labels.no_photos] == ["task-6-annotation-3-by-1-tag-car-0.png"]


MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntree:10,20,30::\nroad:0,200,0::\n"


def test_cvat_masks(tmp_path: Path) -> None:
    photos(tmp_path / "photos", "a.jpg")
    colors = np.zeros((H, W, 3), np.uint8)
    colors[2:6, 2:6] = 10, 20, 30
    save(tmp_path / "export" / "SegmentationClass" / "a.png", colors)
    save(tmp_path / "export" / "SegmentationObject" / "a.png", colors)
    write(tmp_path / "export" / "labelmap.txt", MAP)
    labels = read(tmp_path / "export", images=tmp_path / "photos")
    assert labels.classes == ("tree", "road") and labels.colors == ((10, 20, 30), (0, 200, 0))
    np.testing.assert_array_equal(masks(labels)["a.jpg"], square(0))


def test_colors_that_are_no_class_are_listed_together(tmp_path: Path) -> None:
    photos(tmp_path, "JPEGImages/a.jpg")
    colors = np.zeros((H, W, 3), np.uint8)
    colors[2:6, 2:6] = 11, 20, 30
    colors[0, 0] = 1, 199, 0
    save(tmp_path / "SegmentationClass" / "a.png", colors)
    write(tmp_path / "labelmap.txt", MAP)
    expected = (
        r"2 colors are not in labelmap.txt, 8.9 % of all pixels: #0b141e 8.3 %, nearest 'tree' #0a141e; "
        r"#01c700 0.52 %, nearest 'road' #00c800; add `- {name: NAME, color: \"#0b141e\"}`"
    )
    with pytest.raises(InputError, match=expected):
        masks(read(tmp_path))


def palette_mask(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette([v for color in ((0, 0, 0), (128, 0, 0), (0, 128, 0)) for v in color])
    return image


@pytest.mark.parametrize(
    "kind,classes",
    [
        ("index", ("class_0", "class_1")),
        ("palette", ("class_0", "class_1")),
        ("color", ("color_000000", "color_800000")),
        ("binary", ("background", "foreground")),
        ("gray", ("gray_0", "gray_90")),
    ],
)
def test_masks_without_a_class_file(tmp_path: Path, kind: str, classes: tuple[str, ...]) -> None:
    photos(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "masks").mkdir()
    image = {
        "index": Image.fromarray(square(1, 0)),
        "palette": palette_mask(square(1, 0)),
        "color": palette_mask(square(1, 0)).convert("RGB"),
        "binary": Image.fromarray(square(255, 0)),
        "gray": Image.fromarray(square(90, 0)),
    }[kind]
    image.save(tmp_path / "masks" / "a.png")
    labels = read(tmp_path)
    assert labels.classes == classes
    np.testing.assert_array_equal(masks(labels)["a.jpg"], square(1, 0))


def test_masks_by_a_class_file_with_hex_colors(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg", "b.jpg")
    palette_mask(square(1, 0)).convert("RGB").save(tmp_path / "a_mask.png")
    write(tmp_path / "classes.yaml", "- {name: tree, color: '#800000'}\n- {name: rest, color: '000000'}")
    labels = read(tmp_path, class_file=read_class_file(tmp_path / "classes.yaml"))
    assert labels.classes == ("tree", "rest")
    np.testing.assert_array_equal(masks(labels)["a.jpg"], square(0, 1))
    assert "masks are named {stem}_mask (mask_name)" in labels.notes
    assert labels.no_photos == {tmp_path / "a_mask.png"}


def test_one_folder_a_class(tmp_path: Path) -> None:
    photos(tmp_path, "images/a.jpg", "images/b.jpg")
    road = np.zeros((H, W), np.uint8)
    road[5:8] = 255
    save(tmp_path / "masks" / "road" / "a.png", road)
    save(tmp_path / "masks" / "tree" / "a.png", square(255, 0))
    save(tmp_path / "masks" / "tree" / "b.png", square(255, 0))
    labels = read(tmp_path)
    expected = np.where(road > 0, 0, BLANK)
    expected[2:6, 2:6] = 1
    assert labels.classes == ("road", "tree")
    np.testing.assert_array_equal(masks(labels)["a.jpg"], expected)
    np.testing.assert_array_equal(masks(labels)["b.jpg"], square(1))


@pytest.mark.parametrize("name", ["x_L.png", "x-mask.png", "mask_x.png", "x.png"])
def test_masks_beside_the_photos(tmp_path: Path, name: str) -> None:
    photos(tmp_path, "x.jpg", "y.jpg")
    save(tmp_path / name, square(1, 0))
    np.testing.assert_array_equal(masks(read(tmp_path))["x.jpg"], square(1, 0))


def test_masks_named_by_a_pattern(tmp_path: Path) -> None:
    photos(tmp_path, "x.jpg", "y.jpg")
    save(tmp_path / "lab~x~1.png", square(1, 0))
    with pytest.raises(InputError, match=r'mask_name="{stem}_mask"'):
        read(tmp_path)
    np.testing.assert_array_equal(masks(read(tmp_path, mask_name="lab~{stem}~1"))["x.jpg"], square(1, 0))


def broken(kind: str) -> tuple[str, Any]:
    """A file name and a content that is damaged in one way."""
    region = {"type": "brushlabels", "value": {"format": "rle", "brushlabels": ["tree"]}}
    code = brush(square(1, 0) > 0)
    flat = {"image_id": 7, "category_id": 2}
    return {
        "half a file": ("a.json", '{"shapes": [{"lab'),
        "deep": ("a.json", "[" * 100_000),
        "labelme shapes": ("a.json", labelme(shapes=[{"label": "x", "points": [[1]]}])),
        "labelme corner": ("a.json", labelme(shapes=[{"label": "x", "points": [[0, 0], [1e300, 1], [1, 1]]}])),
        "labelme nan": ("a.json", labelme(shapes=[{"label": "x", "points": [[0, 0], [float("nan"), 1], [1, 1]]}])),
        "labelme mask": ("a.json", labelme(shapes=[{"label": "x", "points": [[0, 0], [1, 1]], "shape_type": "mask"}])),
        "labelme name": ("a.json", labelme(shapes=[{"label": "a\x1b[1m", "points": SQUARE}])),
        "labelme size": ("a.json", labelme(imageHeight=10**9)),
        "labelme turned": ("a.json", labelme(imageHeight=W, imageWidth=H)),
        "coco images": ("a.json", coco(images=[{"id": 7}])),
        "coco category": ("a.json", coco(annotations=[{**flat, "category_id": 9, "segmentation": [[1] * 6]}])),
        "coco odd": ("a.json", coco(annotations=[{**flat, "segmentation": [[1.0] * 7]}])),
        "coco odd and short": ("a.json", coco(annotations=[{**flat, "segmentation": [[1.0] * 5]}])),
        "coco id": ("a.json", coco(categories=[{"id": 2, "name": "road"}, {"id": 2, "name": "tree"}])),
        "coco runs": ("a.json", coco(annotations=[{**flat, "segmentation": {"size": [H, W], "counts": [5, -1]}}])),
        "coco text": ("a.json", coco(annotations=[{**flat, "segmentation": {"size": [H, W], "counts": "o"}}])),
        "coco size": ("a.json", coco(annotations=[{**flat, "segmentation": {"size": [9, 9], "counts": [81]}}])),
        "brush": ("a.json", [task([{**region, "value": {**region["value"], "rle": code[:20]}}])]),
        "brush size": ("a.json", [task([{**region, "value": {**region["value"], "rle": [255] * 40}}])]),
        "brush bytes": ("a.json", [task([{**region, "value": {**region["value"], "rle": [1, 999]}}])]),
        "task": ("a.json", [task([], image="a.jpg", annotations=[{"id": 1}])]),
        "region": ("a.json", [{**task([], image="a.jpg"), "annotations": [{"result": [3]}]}]),
        "yolo class": ("a.txt", "9 0 0 1 0 1 1"),
        "yolo corner": ("a.txt", "0 0 0 1 0 1 77"),
        "yolo odd": ("a.txt", "0 0 0 1 0 1"),
        "yolo word": ("a.txt", "0 0 0 1 0 1 1\nx y"),
        "yolo commas": ("labels/a.txt", "0,0,0,1,0,1,1"),
        "yolo words": ("labels/a.txt", "tree here"),
    }[kind]


KINDS = (
    *("half a file", "deep", "labelme shapes", "labelme corner", "labelme nan", "labelme mask", "labelme name"),
    *("labelme size", "labelme turned", "coco images", "coco category", "coco odd", "coco runs", "coco text"),
    *("coco size", "brush", "brush size", "brush bytes", "task", "region", "yolo class", "yolo corner", "yolo odd"),
    *("yolo word", "yolo commas", "yolo words", "coco odd and short", "coco id"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_named_in_one_line(tmp_path: Path, kind: str) -> None:
    photos(tmp_path, "a.jpg")
    name, content = broken(kind)
    write(tmp_path / name, content)
    write(tmp_path / "classes.txt", "tree")
    with pytest.raises(InputError, match=rf"{name}") as told:
        masks(read(tmp_path))
    assert "\n" not in str(told.value)


def test_a_damaged_yolo_file_among_good_ones_is_named(tmp_path: Path) -> None:
    photos(tmp_path, "images/a.jpg", "images/b.jpg")
    write(tmp_path / "labels/a.txt", "0 0 0 1 0 1 1")
    write(tmp_path / "labels/b.txt", "tree 0 0 1 0 1 1")
    write(tmp_path / "labels/notes.txt", "this names no photo")
    write(tmp_path / "classes.txt", "tree")
    with pytest.raises(InputError, match=r"b\.txt, line 1: expected a class index"):
        read(tmp_path)


def test_coco_ids_as_text_and_objects_without_image(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg")
    square_at = [float(v) for point in SQUARE for v in point]
    objects = [
        {"image_id": "7", "category_id": 2, "segmentation": [square_at]},
        {"image_id": 8, "category_id": 2, "segmentation": [square_at]},
        {"image_id": 7, "category_id": 2, "segmentation": [[1.0, 1.0, 5.0, 5.0]]},
    ]
    write(tmp_path / "a.json", coco(annotations=objects))
    labels = read(tmp_path)
    index = labels.classes.index(next(c["name"] for c in coco()["categories"] if c["id"] == 2))
    np.testing.assert_array_equal(masks(labels)["a.jpg"], square(index))
    assert labels.notes == (
        "1 objects have outlines with fewer than three corners: skipped",
        "1 objects have an image_id that no image of their file has: skipped",
    )


def test_photos_without_objects_and_names_in_two_cases_are_remarked(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg", "b.jpg")
    shapes = [{"label": label, "points": SQUARE, "shape_type": "polygon"} for label in ("Tree", "tree")]
    write(tmp_path / "a.json", labelme(shapes=shapes))
    write(tmp_path / "b.json", labelme("b.jpg", []))
    empty, twins = read(tmp_path).remarks(False)
    assert empty.startswith("1 labeled images contain no object: all background") and "blank=ignore" in empty
    assert twins == "the class 'Tree' differs from 'tree' only in case; are they the same?"
    assert read(tmp_path).remarks(True)[0] == "1 labeled images contain no object: unlabeled"


def test_jpeg_masks_are_refused(tmp_path: Path) -> None:
    photos(tmp_path, "images/a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(square(200, 0)).save(tmp_path / "masks/a.jpg")
    with pytest.raises(InputError, match=r"masks/a\.jpg: a JPEG file; .* export masks as PNG"):
        read(tmp_path)


def test_a_value_that_is_no_class_is_named(tmp_path: Path) -> None:
    photos(tmp_path, "images/a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(square(100, 0)).save(tmp_path / "masks/a.png")
    classes = write(tmp_path / "classes.yaml", "- {name: a, color: '#00ff00'}\n- {name: b, color: '#ff0000'}\n")
    with pytest.raises(InputError, match=r"a\.png: label 100 at row 2, column 2 .* is not allowed"):
        masks(read(tmp_path, class_file=read_class_file(classes)))


def test_labels_of_two_tools_are_not_mixed(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg")
    write(tmp_path / "a.json", labelme())
    write(tmp_path / "all.json", coco())
    with pytest.raises(InputError, match=r"labels of several tools: labelme .*, coco .*; choose one: format=labelme"):
        read(tmp_path)
    assert read(tmp_path, format="coco").classes == ("road", "tree")


def test_two_photos_of_one_name(tmp_path: Path) -> None:
    photos(tmp_path, "x/a.jpg", "y/a.jpg")
    write(tmp_path / "all.json", coco())
    with pytest.raises(InputError, match=r"all.json: 'a.jpg' may be any of .*x/a.jpg, .*y/a.jpg"):
        read(tmp_path)


def test_labels_without_any_photo(tmp_path: Path) -> None:
    write(tmp_path / "all.json", coco())
    assert detect(Source(tmp_path, tmp_path)) == "coco"
    with pytest.raises(InputError, match=r"no photo found for any label \(a.jpg\); set the folder .*images=DIR"):
        read(tmp_path)
