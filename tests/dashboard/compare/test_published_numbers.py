import csv
import re

import pytest

from semiseg.dashboard.compare.published import OTHER_LISTS, beside, marks_against, own_encoder, published_cells
from semiseg.dashboard.compare.tables import make_sections
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.report import write_report
from semiseg.data.partitions.official import official_partition
from support.fake_runs import write_run


def run_on(root, name, *, model="deeplabv3plus_r101", evaluation="Whole", weights="hub", seed=0, **more):
    data, partition = name.split("/")
    ids = official_partition(name).sha256
    result = {"labeled_ids_sha256": ids, "official": name}
    folder = write_run(root, "unimatch", seed, data=data, partition=partition, model=model, result=result | more)
    with (folder / "config.yaml").open("a") as file:
        file.write(f"eval:\n  _target_: semiseg.inference.{evaluation}\nmodel:\n  weights: {weights}\n")
    return folder


def blocks(root):
    return [block for section in make_sections(find_runs([root])) for block in beside(section)]


def cell(block, method, crop):
    cells = (*block.same_encoder, *block.other_encoders)
    return next(c for c in cells if c.method == method and c.crop == crop)


def test_cells_by_hand():
    cells = [c for c in published_cells() if c.official == "voc/classic_92"]
    logs = next(c for c in cells if c.method == "UniMatch (mean of 3 logs)" and c.encoder == "ResNet-101")
    assert (logs.miou, logs.miou_last, logs.seeds, logs.marks) == (74.99, 74.48, 3, ("best epoch",))
    plain = next(c for c in cells if c.method == "ScaleMatch")
    assert (plain.miou, plain.miou_last, plain.seeds, plain.marks) == (76.7, None, None, ())
    # The note of this row is about the cell of 183 images.
    assert next(c for c in cells if c.method == "CW-BASS v2").marks == ()
    assert {c.official for c in published_cells() if c.method == "CW-BASS v2" and "best epoch" in c.marks} >= {
        "voc/classic_183"
    }


def test_every_cell_names_a_partition_of_its_own_size():
    for c in published_cells():
        assert official_partition(c.official) is not None, c
        assert 0 < c.miou < 100 and c.source


def test_the_hash_decides_and_not_the_name(tmp_path):
    run_on(tmp_path / "a", "voc/classic_92", labeled_ids_sha256="ab" * 32)
    assert blocks(tmp_path / "a") == []
    run_on(tmp_path / "b", "voc/blender_1_16", labeled_ids_sha256=official_partition("voc/u2pl_1_16").sha256)
    assert [block.official for block in blocks(tmp_path / "b")] == ["voc/u2pl_1_16"]


def test_families_of_equal_size_share_no_cell(tmp_path):
    shown = {}
    for name in ("voc/blender_1_8", "voc/u2pl_1_8", "voc/cac_1_8"):
        run_on(tmp_path / name.replace("/", "_"), name)
        for block in blocks(tmp_path / name.replace("/", "_")):
            shown[name] = {id(c) for c in (*block.same_encoder, *block.other_encoders)}
            assert all(OTHER_LISTS not in c.marks for c in (*block.same_encoder, *block.other_encoders))
            assert all(not re.search("at run time", c.notes) for c in (*block.same_encoder, *block.other_encoders))
    assert len(shown) >= 2
    assert len(set().union(*shown.values())) == sum(map(len, shown.values()))
    city = [c for c in published_cells() if c.official.startswith("cityscapes/1_")]
    assert not [c for c in city if "U2PL family" in c.notes and OTHER_LISTS not in c.marks]


@pytest.mark.parametrize(
    "settings, method, crop, expected",
    [
        ({}, "ScaleMatch", "513", set()),
        ({"weights": "none"}, "ScaleMatch", "513", {"pretrained, own is not"}),
        ({"model": "segformer_b5"}, "ScaleMatch", "513", {"other encoder"}),
        ({"evaluation": "Whole"}, "UniMatch V2", "518", {"other encoder", "DINOv2 pretraining", "best epoch"}),
        ({}, "SemiOVS (UniMatch)", "321", {"extra data"}),
        ({"evaluation": "Sliding"}, "SemiVL", "512", {"evaluation: short side 512", "CLIP pretraining"}),
    ],
)
def test_marks(tmp_path, settings, method, crop, expected):
    run_on(tmp_path, "voc/classic_92", **settings)
    (block,) = blocks(tmp_path)
    assert expected <= set(marks_against(cell(block, method, crop), block))
    if not expected:
        assert marks_against(cell(block, method, crop), block) == ()


def test_encoders_of_our_models():
    assert own_encoder("deeplabv3plus_r101_os8") == "ResNet-101"
    assert own_encoder("dpt_dinov2_b") == "DINOv2-B"
    assert own_encoder("deeplabv3plus_r18") is None


def test_the_three_outputs_show_them(tmp_path):
    run_on(tmp_path, "voc/classic_92")
    run_on(tmp_path, "voc/classic_92", seed=1)
    report = write_report([tmp_path], tmp_path / "report.html")
    assert "Published on voc/classic_92 (the same labeled images):" in report.text
    assert "| CorrMatch (CVPR 2024)" in report.text
    own = next(line for line in report.text.splitlines() if line.startswith("| unimatch (own)"))
    assert "evaluation: Whole" in own and "|     2 |" in own
    page = report.html.read_text(encoding="utf-8")
    assert "Published numbers" in page and "of other labeled images: not comparable" in page
    rows = list(csv.DictReader((tmp_path / "report_published.csv").open(encoding="utf-8")))
    assert len(rows) == sum(c.official == "voc/classic_92" for c in published_cells())
    assert {row["list"] for row in rows} == {"same", "other"}


def test_nothing_is_shown_without_an_official_list(tmp_path):
    write_run(tmp_path)
    report = write_report([tmp_path], tmp_path / "report.html")
    assert "ublished" not in report.text + report.html.read_text(encoding="utf-8").split("</style>")[1]
    assert not (tmp_path / "report_published.csv").exists()
