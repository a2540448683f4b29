"""A report replaces reports, and nothing else."""

import csv

import pytest

from semiseg.dashboard.report import main, write_report
from semiseg.errors import InputError
from support.fake_runs import write_run


@pytest.mark.parametrize("name", ["README.md", "README.csv", "README.html", "README_published.csv"])
@pytest.mark.parametrize("watching", [False, True])
def test_a_file_that_is_not_a_report_is_not_replaced(tmp_path, name, watching):
    write_run(tmp_path / "runs", n_logged=2)
    (tmp_path / name).write_text("# My project\n")
    with pytest.raises(InputError, match=f"{name} exists and was not written by semiseg report"):
        main([tmp_path / "runs"], tmp_path / "README.html", watching=watching, every=0.1, quiet=0.1)
    assert (tmp_path / name).read_text() == "# My project\n"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]
    main([tmp_path / "runs"], tmp_path / "README.html", overwrite=True)
    assert "semiseg report" in (tmp_path / "README.html").read_text()


def test_a_link_or_a_folder_is_not_replaced(tmp_path):
    write_run(tmp_path / "runs", n_logged=2)
    (tmp_path / "a.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.csv").mkdir()
    for name in ("a.html", "b.html"):
        with pytest.raises(InputError, match="was not written by semiseg report"):
            write_report([tmp_path / "runs"], tmp_path / name)


def test_reports_of_this_and_of_older_versions_are_replaced(tmp_path):
    write_run(tmp_path / "runs", n_logged=2)
    page = tmp_path / "report.html"
    write_report([tmp_path / "runs"], page)
    write_report([tmp_path / "runs"], page)
    page.write_text("<!doctype html>\n<html><head><title>Study demo · semiseg report</title></head></html>")
    page.with_suffix(".csv").write_text("data,partition,model,method,labeled_ids_sha256\n")
    text = "# Study demo\n\n## shapes\n\nmIoU in percent, mean ± sample standard deviation over seeds. Best: ..."
    page.with_suffix(".md").write_text(text)
    assert "Runs completed" in write_report([tmp_path / "runs"], page).html.read_text()


def test_cells_that_a_spreadsheet_would_run_are_text(tmp_path):
    for i, name in enumerate(["=1+1", "+1", "-1", "@x", "\tx", "fine"]):
        write_run(tmp_path, seed=i, n_logged=2, result={"method": name})
    rows = list(csv.DictReader(write_report([tmp_path], tmp_path / "r.html").csv.open(newline="")))
    assert {row["method"] for row in rows} == {"'=1+1", "'+1", "'-1", "'@x", "'\tx", "fine"}
    assert all(not cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row.values())


def test_negative_numbers_stay_numbers(tmp_path):
    for method, best in (("supervised", 0.6), ("unimatch", 0.5)):
        write_run(tmp_path, method, n_logged=2, result={"miou": {"best": best, "last": best}})
    rows = list(csv.DictReader(write_report([tmp_path], tmp_path / "r.html").csv.open()))
    assert [row["delta_best_mean"] for row in rows] == ["", "-0.1"]


def test_markdown_holds_no_html_and_no_links_of_others(tmp_path):
    hostile = "<script>alert(1)</script> [x](javascript:alert(1)) ![y](//z) &lt;b&gt;\n# h"
    write_run(tmp_path, n_logged=2, result={"study": hostile, "method": hostile})
    write_run(tmp_path, seed=1, n_logged=2, result={"status": "failed", "error": hostile, "model": hostile})
    text = write_report([tmp_path], tmp_path / "r.html").markdown.read_text()
    body = text.partition("-->")[2]
    assert "<script" not in body and "](" not in body.replace("\\[x](", "").replace("\\[y](", "")
    assert "&amp;lt;b" in body and "\n# h" not in body
