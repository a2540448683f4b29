"""Takes the screenshots of the documentation with headless chromium.

Run: make screenshots, which rewrites docs/*.png; or python tools/screenshots.py --pages DIR for a screenshot of every
page of the built site.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

TOP = Path(__file__).resolve().parents[1]
DEMO = TOP / "runs" / "demo"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def shoot(page: Path, picture: Path, *, width: int, height: int, scale: float = 1.0) -> None:
    """Take a screenshot of the top of a page, with 128 colors.

    Args:
        page: HTML file.
        picture: PNG file.
        width, height: window size in CSS pixels.
        scale: image pixels per CSS pixel.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: no browser found: install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-extensions",
                f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--force-device-scale-factor={scale}",
                "--virtual-time-budget=4000", f"--screenshot={picture}", page.resolve().as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)


def documentation() -> None:
    """Screenshots of the demo report, and of the page of images written by ``semiseg data check``."""
    if not (DEMO / "report.html").is_file():
        sys.exit(f"error: no {DEMO / 'report.html'}: run make demo first")
    shoot(DEMO / "report.html", TOP / "docs" / "report.png", width=1200, height=1545)
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.html"
        command = [sys.executable, "-m", "semiseg", "data", "check", "data=shapes", f"sheet={sheet}"]
        subprocess.run(command, check=True, capture_output=True)
        shoot(sheet, TOP / "docs" / "data_sheet.png", width=1000, height=640)


def pages(folder: Path) -> None:
    """Screenshots of all pages of the built site."""
    site = TOP / "site"
    folder.mkdir(parents=True, exist_ok=True)
    for page in sorted(site.rglob("*.html")):
        name = page.relative_to(site).with_suffix(".png").as_posix().replace("/", "-")
        shoot(page, folder / name, width=1280, height=2400)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pages"] and len(sys.argv) == 3:
        pages(Path(sys.argv[2]))
    else:
        documentation()
