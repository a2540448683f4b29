"""Hooks of the documentation site: generated tables, and pages from outside docs/."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tools"))

import docs_tables  # noqa: E402

OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "experiments")
TABLES = {
    "options": docs_tables.options,
    "changes": docs_tables.changes,
    "published": docs_tables.published,
    "measured": docs_tables.measured,
    "methods": docs_tables.method_list,
    "partitions": docs_tables.partitions,
}
MARK = re.compile(r"^<!-- table: (\w+)(.*?)-->$", re.M)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside ``docs/`` under their repository paths."""
    for name in OUTSIDE:
        found = [TOP / name] if (TOP / name).is_file() else sorted((TOP / name).rglob("*.*"))
        for path in found:
            source = path.relative_to(TOP).as_posix()
            files.append(File.generated(config, source, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in tables, and convert repository links to site links."""

    def table(mark: re.Match[str]) -> str:
        arguments = [a.strip() for a in mark[2].split(",") if a.strip()]
        return TABLES[mark[1]](*arguments)

    if page.file.src_uri.startswith(OUTSIDE):
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    markdown = re.sub(rf"\]\(\.\./(?=(?:\.\./)*(?:{'|'.join(OUTSIDE)}))", "](", markdown)
    return MARK.sub(table, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Replace reStructuredText roles in docstrings by the name."""
    return re.sub(r":(?:class|func|meth|mod|attr):<code>~?([^<]+)</code>", r"<code>\1</code>", html)
