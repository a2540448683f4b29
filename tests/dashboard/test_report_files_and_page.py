import csv
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from semiseg.dashboard.report import main, write_report
from semiseg.errors import InputError
from support.fake_runs import CLASSES, write_run, write_study

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study") / "runs"
    write_study(root)
    return write_report([root], root.parent / "out" / "report.html")


@pytest.fixture(scope="module")
def page(study):
    return study.html.read_text(encoding="utf-8")


def test_writes_a_page_a_csv_and_a_table(study, page):
    assert [path.name for path in (study.html, study.csv, study.markdown)] == [
        "report.html",
        "report.csv",
        "report.md",
    ]
    assert len(list(csv.DictReader(study.csv.open()))) == 3
    assert study.markdown.read_text(encoding="utf-8").startswith("<!-- written by semiseg report -->\n\n# Study demo\n")
    assert len(study.runs) == 8
    assert sorted(p.name for p in study.html.parent.iterdir()) == ["report.csv", "report.html", "report.md"]
    assert len(page) < 1_000_000


def test_the_page_shows_every_part(page):
    outline = Outline(page)
    text = " ".join(outline.text)
    for heading in (
        "Study demo", "Results", "Learning curves", "Best mIoU by seed", "Training loss", "IoU per class",
        "Pseudo-labels over training", "Predictions", "Pseudo-labels", "All runs", "6 of 8",
        "1 failed, 1 unfinished", "RuntimeError: loss is nan <b>", "mean_teacher seed 2 (unfinished)",
        "semiseg train data=shapes", "torch 2.11.0",
        "0b1c2d3e4f5a69788796a5b4c3d2e1f001122334 (with uncommitted changes)", *CLASSES,
    ):  # fmt: skip
        assert heading in text, heading
    assert outline.tags.count("img") == 3 * (2 + 3) + 2 * 3 + 2 * 4 + 1  # the last one shows what is enlarged
    assert outline.tags.count("figure") == outline.tags.count("img") - 1 + 2  # mean_teacher has no truth


def test_the_page_reaches_nothing_outside(page):
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", page).replace("// ", ""))
    for tag, name, value in Outline(page).attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert value.startswith(("data:image/", "#")), (tag, name, value[:50])
    policy = next(value for _, _, value in Outline(page).attributes if value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_same_input_gives_the_same_bytes(study):
    again = write_report([study.runs[0].folder.parents[4]], study.html.parent.parent / "again" / "report.html")
    for first, second in ((study.html, again.html), (study.csv, again.csv), (study.markdown, again.markdown)):
        assert first.read_bytes() == second.read_bytes()


def test_hostile_names_stay_text(tmp_path):
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    texts = ("method", "model", "data", "partition", "study", "error", "started", "precision", "official")
    fields = {key: hostile for key in texts} | {"versions": {hostile: hostile}, "git": {"commit": hostile}}
    write_run(tmp_path, result=fields | {"iou_per_class": {hostile: 0.5}, "labeled_ids_sha256": hostile})
    folder = write_run(tmp_path, "unimatch", images=True, result={"model": hostile, "data": hostile})
    (folder / "images" / "classes.json").write_text('{"classes": ["<img src=y>"], "palette": [[0, 0, 0]]}')
    write_run(tmp_path, seed=1, result={"status": "failed", "error": hostile, "command": hostile})
    named = "<script>alert(1)<img src=x onerror=alert(1)>"  # file names have no slash
    write_run(tmp_path, seed=2, study=named, suffix=named, overrides=[hostile], n_logged=2, result={"study": named})
    write_run(tmp_path, seed=3, study=named, partition=named, unfinished=True, n_logged=2)
    report = write_report([tmp_path], tmp_path / "report.html")
    outline = Outline(report.html.read_text(encoding="utf-8"))
    assert outline.tags.count("script") == 1
    assert all(value.startswith("data:") for tag, name, value in outline.attributes if name == "src")
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert hostile in outline.text and any(named in text for text in outline.text)
    assert "<script" not in report.text and "<img" not in report.text


def test_runs_without_any_result_still_make_a_report(tmp_path):
    write_run(tmp_path, "unimatch", unfinished=True, images=True, last_step=900)
    damaged = write_run(tmp_path, "supervised")
    (damaged / "result.json").write_text("{")
    (damaged / "metrics.csv").write_bytes(b"\xff")
    report = write_report([tmp_path], tmp_path / "report.html")
    text = " ".join(Outline(report.html.read_text(encoding="utf-8")).text)
    assert "No completed run yet." in text and "No completed run yet." in report.text
    assert "unimatch (unfinished)" in text
    assert "cannot be read as a result" in text
    assert "900 of 2,000" in text


def test_a_run_with_nothing_but_a_configuration_makes_a_report(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    assert write_report([tmp_path], tmp_path / "report.html").runs[0].status == "unfinished"


def test_several_settings_get_contents_and_sections(tmp_path):
    for partition in ("1_8", "1_16"):
        write_run(tmp_path, partition=partition, n_logged=3)
    outline = Outline(write_report([tmp_path], tmp_path / "r.html").html.read_text(encoding="utf-8"))
    links = [value for tag, name, value in outline.attributes if name == "href"]
    anchors = [value for tag, name, value in outline.attributes if (tag, name) == ("h2", "id")]
    assert links == [f"#{anchor}" for anchor in anchors] == ["#s0", "#s1"]


def test_one_method_keeps_one_color_and_its_variants_differ_in_dash(tmp_path):
    write_run(tmp_path, "unimatch", n_logged=3)
    write_run(tmp_path, "unimatch", suffix="aa", n_logged=3)
    write_run(tmp_path, "unimatch", suffix="bb", n_logged=3)
    page = write_report([tmp_path], tmp_path / "r.html").html.read_text(encoding="utf-8")
    lines = re.findall(r'<path d="M[^"]*L[^"]*" class="mean" style="stroke:(.*?)"(?: stroke-dasharray="(.*?)")?', page)
    first_chart = lines[:3]
    assert {color for color, _ in first_chart} == {"var(--m1)"}
    assert len({dash for _, dash in first_chart}) == 3


def test_main_prints_the_table_and_the_path(tmp_path, capsys):
    write_run(tmp_path / "runs", n_logged=3)
    assert main([tmp_path / "runs"], None) == 0
    out = capsys.readouterr().out
    assert "| supervised |" in out
    assert out.rstrip().endswith(f"Report: {tmp_path / 'runs' / 'report.html'}")
    (tmp_path / "other").mkdir()
    main([tmp_path / "runs"], tmp_path / "other")
    main([tmp_path / "runs"], tmp_path / "new" / "page.html")
    assert (tmp_path / "other" / "report.html").exists()
    assert (tmp_path / "new" / "page.md").exists()


def test_wrong_input_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no run found below .*: a run folder contains a config\.yaml"):
        main([tmp_path], None)
    with pytest.raises(InputError, match="no folder given"):
        main([], None)
    write_run(tmp_path, n_logged=2)
    with pytest.raises(InputError, match=r"must end in \.html"):
        main([tmp_path], tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        main([tmp_path], tmp_path / "file" / "report.html")


@pytest.mark.cli
def test_the_report_needs_neither_torch_nor_hydra():
    code = "import sys, semiseg.dashboard.report as r; print({'torch', 'hydra', 'omegaconf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
