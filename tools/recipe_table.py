"""Write the table of recipes and published numbers into experiments/README.md.

Run: python tools/recipe_table.py
The numbers come from the package's table of published results; a test compares the two.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[1]
README = TOP / "experiments" / "README.md"
PUBLISHED = TOP / "src" / "semiseg" / "dashboard" / "compare" / "published_results.csv"
START, END = "<!-- made by tools/recipe_table.py -->", "<!-- end of the table -->"


class Recipe(NamedTuple):
    """One line of the table: a recipe file with additional overrides, and matching rows of the published results."""

    experiment: str
    added: str
    method: str  # as in the published results, and so on
    family: str
    encoder: str
    crop: str


def _voc(file: str, method: str, encoder: str, crop: str, families: str, model: str = "") -> list[Recipe]:
    return [Recipe(file, model, method, f"voc-{family}", encoder, crop) for family in families.split()]


RECIPES = [
    *_voc("unimatch/voc", "UniMatch", "ResNet-101", "321", "classic blender"),
    *_voc("unimatch/voc", "UniMatch", "ResNet-50", "321", "classic blender", "model=deeplabv3plus_r50"),
    *_voc("unimatch/voc", "UniMatch", "ResNet-101", "513", "u2pl", "crop_size=[513,513]"),
    *_voc("unimatch/voc", "UniMatch", "ResNet-50", "513", "u2pl", "model=deeplabv3plus_r50 crop_size=[513,513]"),
    Recipe("unimatch/cityscapes", "", "UniMatch", "cityscapes", "ResNet-101", "801"),
    Recipe("unimatch/cityscapes", "model=deeplabv3plus_r50", "UniMatch", "cityscapes", "ResNet-50", "801"),
    Recipe("unimatch/coco", "", "UniMatch", "coco", "Xception-65", "513"),
    *_voc("stpp/voc", "ST++", "ResNet-101", "321", "classic blender"),
    *_voc("stpp/voc", "ST++", "ResNet-50", "321", "blender", "model=deeplabv3plus_r50"),
    Recipe("stpp/cityscapes", "", "ST++", "cityscapes", "ResNet-101", "721"),
    *_voc("augseg/voc", "AugSeg", "ResNet-101", "513", "classic blender u2pl"),
    *_voc("augseg/voc", "AugSeg", "ResNet-50", "513", "classic blender u2pl", "model=deeplabv3plus_r50"),
    Recipe("augseg/cityscapes", "", "AugSeg", "cityscapes", "ResNet-101", "800"),
    Recipe("augseg/cityscapes", "model=deeplabv3plus_r50", "AugSeg", "cityscapes", "ResNet-50", "800"),
    *_voc("corrmatch/voc", "CorrMatch", "ResNet-101", "321 (513 for the larger)", "classic"),
    *_voc("corrmatch/voc", "CorrMatch", "ResNet-101", "513", "blender u2pl", "crop_size=[513,513]"),
    Recipe("corrmatch/cityscapes", "", "CorrMatch", "cityscapes", "ResNet-101", "801"),
    Recipe("unimatch_v2/voc", "", "UniMatch V2", "voc-classic", "DINOv2-B", "518"),
    Recipe("unimatch_v2/voc", "model=dpt_dinov2_s", "UniMatch V2", "voc-classic", "DINOv2-S", "518"),
    Recipe("unimatch_v2/voc", "model=dpt_dinov2_l", "UniMatch V2", "voc-classic", "DINOv2-L", "518"),
    Recipe("unimatch_v2/cityscapes", "", "UniMatch V2", "cityscapes", "DINOv2-B", "798"),
    Recipe("unimatch_v2/cityscapes", "model=dpt_dinov2_s", "UniMatch V2", "cityscapes", "DINOv2-S", "798"),
    Recipe("unimatch_v2/ade20k", "", "UniMatch V2", "ade20k", "DINOv2-B", "518"),
    Recipe("unimatch_v2/ade20k", "model=dpt_dinov2_s", "UniMatch V2", "ade20k", "DINOv2-S", "518"),
    Recipe("unimatch_v2/ade20k", "model=dpt_dinov2_l", "UniMatch V2", "ade20k", "DINOv2-L", "518"),
    Recipe("unimatch_v2/coco", "", "UniMatch V2", "coco", "DINOv2-B", "518"),
    Recipe("unimatch_v2/coco", "model=dpt_dinov2_s", "UniMatch V2", "coco", "DINOv2-S", "518"),
    *_voc("u2pl/voc", "U2PL", "ResNet-101", "513", "classic blender u2pl"),
    Recipe("u2pl/cityscapes", "", "U2PL", "cityscapes-u2pl", "ResNet-101", "769"),
    *_voc("allspark/voc", "AllSpark", "MiT-B5", "513", "classic blender u2pl"),
    Recipe("allspark/cityscapes", "", "AllSpark", "cityscapes", "MiT-B5", "801"),
    Recipe("allspark/coco", "", "AllSpark", "coco", "MiT-B5", "513"),
    *_voc("guidedmix/voc", "GuidedMix-Net", "ResNet-101", "512", "u2pl"),
    Recipe("guidedmix/cityscapes", "", "GuidedMix-Net", "cityscapes-u2pl", "ResNet-101", "769"),
    *_voc("mkd/voc", "MKD", "ResNet-50", "512", "u2pl"),
    *_voc("s4mim/voc", "S4MIM", "ResNet-101", "321", "classic"),
    Recipe("s4mim/cityscapes", "", "S4MIM", "cityscapes", "ResNet-101", "801"),
]


def cells(recipe: Recipe, rows: list[dict[str, str]]) -> dict[int, str]:
    """Published mIoU by number of labeled images; the authors' own numbers take precedence over quoted ones."""
    wanted = {
        "method": recipe.method,
        "protocol": recipe.family,
        "encoder": recipe.encoder,
        "crop": recipe.crop,
    }
    found: dict[int, str] = {}
    for row in sorted(rows, key=lambda row: "quoted" in row["notes"]):
        if all(row[key] == value for key, value in wanted.items()) and row["labeled_count"].isdigit():
            found.setdefault(int(row["labeled_count"]), row["miou"])
    return dict(sorted(found.items()))


def table() -> str:
    """The table, as Markdown."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [
        "| experiment= | add | lists | encoder | crop | labeled images: published mIoU |",
        "|---|---|---|---|---|---|",
    ]
    for recipe in RECIPES:
        numbers = ", ".join(f"{count}: {miou}" for count, miou in cells(recipe, rows).items()) or "none found"
        added = f"`{recipe.added}`" if recipe.added else ""
        head = f"| {recipe.experiment} | {added} | {recipe.family} | {recipe.encoder} | {recipe.crop} "
        lines.append(f"{head}| {numbers} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """``text`` with the table between its two markers."""
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
