"""Recipes of published cells: they compose, leave the partition to the command line, and say what the papers say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from semiseg.config import compose_config, conf_dir
from semiseg.config.check import check_overrides, options
from semiseg.config.make import make
from semiseg.config.validate import check_config
from semiseg.ops.schedules import poly

TOP = Path(__file__).parents[2]
RECIPES = [name for name in options("experiment") if "/" in name]


def needs_reader(name: str):
    reader = conf_dir() / "data" / f"{name.split('/')[1]}.yaml"
    return pytest.param(name, marks=pytest.mark.skipif(not reader.is_file(), reason=f"no {reader.name} in conf/data"))


@pytest.mark.parametrize("name", [needs_reader(name) for name in RECIPES])
def test_a_recipe_composes_and_its_keys_are_arguments(name: str) -> None:
    check_overrides([f"experiment={name}"])
    cfg = compose_config([f"experiment={name}"])
    method, data = name.split("/")
    assert (cfg.choices.method.removesuffix("_released"), cfg.choices.data, cfg.study) == (method, data, method)
    assert cfg.protocol.name.startswith(f"{data}/")
    cfg.num_classes = 5
    check_config(cfg)
    cfg.max_steps = cfg.max_steps or 100
    for part in ("optim", "loss", "eval", "transforms"):
        make(cfg, part)


@pytest.mark.parametrize("name", [needs_reader(name) for name in RECIPES])
def test_the_partition_is_chosen_beside_the_recipe(name: str) -> None:
    data = name.split("/")[1]
    recipe = compose_config([f"experiment={name}"])
    other = next(p for p in options("protocol") if p.startswith(f"{data}/1_") or p == "voc/blender_1_8")
    chosen = compose_config([f"experiment={name}", f"protocol={other}"])
    first = compose_config([f"protocol={other}", f"experiment={name}"])
    assert chosen.protocol.name == other and chosen.protocol.labeled == other
    assert chosen == first  # the order of the two does not matter
    for key in ("epochs", "max_steps", "crop_size", "batch", "optim", "loss", "eval", "method", "model"):
        assert chosen[key] == recipe[key]


# (recipe, epochs, crop, images of one kind per step, lr, head factor, weight decay), from the specifications
NUMBERS = [
    ("unimatch/voc", 80, 321, 8, 1e-3, 10, 1e-4),
    ("unimatch/cityscapes", 240, 801, 8, 5e-3, 1, 1e-4),
    ("unimatch/coco", 30, 513, 8, 4e-3, 10, 1e-4),
    ("unimatch_v2/voc", 60, 518, 16, 5e-6, 40, 1e-2),
    ("unimatch_v2/cityscapes", 180, 798, 8, 5e-6, 40, 1e-2),
    ("unimatch_v2/ade20k", 60, 518, 8, 5e-6, 40, 1e-2),
    ("unimatch_v2/coco", 20, 518, 16, 5e-6, 40, 1e-2),
    ("u2pl/voc", 80, 513, 16, 1e-3, 10, 1e-4),
    ("u2pl/cityscapes", 200, 769, 16, 1e-2, 1, 5e-4),
    ("allspark/voc", 80, 513, 8, 1e-3, 10, 1e-4),
    ("allspark/cityscapes", 240, 801, 8, 5e-3, 1, 1e-4),
    ("allspark/coco", 10, 513, 16, 1e-3, 10, 1e-4),
    ("guidedmix/voc", None, 512, 16, 1e-2, 1, 5e-4),
    ("guidedmix/cityscapes", None, 769, 8, 1e-2, 1, 5e-4),
    ("mkd/voc", None, 512, 8, 2.5e-3, 1, 5e-4),
    ("corrmatch/voc", 80, 321, 8, 1e-3, 10, 1e-4),
    ("corrmatch/cityscapes", 240, 801, 8, 5e-3, 1, 1e-4),
    ("stpp/voc", 128, 321, 8, 1e-3, 10, 1e-4),
    ("stpp/cityscapes", 384, 721, 8, 4e-3, 10, 1e-4),
    ("augseg/voc", 80, 513, 16, 1e-3, 10, 1e-4),
    ("augseg/cityscapes", 240, 800, 16, 1e-2, 1, 5e-4),
]


@pytest.mark.parametrize(
    ("name", "epochs", "crop", "batch", "lr", "factor", "decay"),
    [pytest.param(*row, marks=needs_reader(row[0]).marks) for row in NUMBERS],
)
def test_numbers_of_the_papers(name, epochs, crop, batch, lr, factor, decay) -> None:
    cfg = compose_config([f"experiment={name}"])
    assert cfg.epochs == epochs and list(cfg.crop_size) == [crop, crop]
    assert (cfg.batch.labeled, cfg.batch.unlabeled) == (batch, batch)
    assert (cfg.optim.lr, cfg.optim.head_factor, cfg.optim.weight_decay) == (lr, factor, decay)


def test_the_rate_of_guidedmix_half_way() -> None:
    assert 0.01 * poly(500, 1000, floor=0.01) == pytest.approx(0.0099 * 0.5**0.9 + 1e-4)


@pytest.fixture(scope="module")
def recipe_table():
    spec = importlib.util.spec_from_file_location("recipe_table", TOP / "tools" / "recipe_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_the_published_numbers(recipe_table) -> None:
    text = recipe_table.README.read_text(encoding="utf-8")
    assert recipe_table.with_table(text) == text, "run: python tools/recipe_table.py"
    assert "| unimatch/voc |  | voc-classic | ResNet-101 | 321 | 92: 75.2, 183: 77.2, 366: 78.8" in text


def test_every_recipe_is_in_the_table(recipe_table) -> None:
    assert {recipe.experiment for recipe in recipe_table.RECIPES} == set(RECIPES)
