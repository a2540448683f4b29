"""Build a wheel, install it in a fresh environment outside the checkout, and train three steps with it.

Run: make wheel-check, or python tools/wheel_check.py
The new environment uses the dependencies of the one that runs this script, so nothing is downloaded. The editable
install there is not visible: only the site-packages folder is added to the path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
INSIDE = (  # in addition to all files in src/: the configuration, which is elsewhere in the checkout
    "semiseg/conf/config.yaml",
    "semiseg/conf/method/unimatch.yaml",
    "semiseg/conf/protocol/shapes/1_8.yaml",
)
TRAIN = (
    "train data=shapes max_steps=3 data.n_train=16 data.n_val=4 batch.labeled=2 batch.unlabeled=2 protocol.count=4 "
    "protocol.fraction=null method=unimatch trainer=cpu loader.num_workers=0"
)


def build(folder: Path) -> Path:
    """Build the wheel from the source distribution. Needs no network: the build tools are installed."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(TOP)], TOP)
    (wheel,) = folder.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    source = TOP / "src"
    files = {
        p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    missing = (set(INSIDE) | {f for f in files if f.startswith(("semiseg/", "hydra_plugins/"))}) - packed
    if missing:
        sys.exit(f"error: {wheel.name} lacks {', '.join(sorted(missing))}")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Create an environment with the wheel; returns its ``bin``."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], folder)
    # After the new packages in the path, so that the wheel's semiseg is found first.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(command: list[str], where: Path) -> str:
    """Run a command and return its output; if it fails, print its error output and exit."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}  # which may point at the checkout
    done = subprocess.run(command, cwd=where, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def main() -> None:
    """Build, install, import, train, report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder / "dist")
        python = str(install(wheel, folder / "env") / "python")
        home = run([python, "-c", "import semiseg; print(semiseg.__file__)"], folder).strip()
        if not home.startswith(str(folder)):
            sys.exit(f"error: {home} was imported instead of the wheel's semiseg")
        run([python, "-m", "semiseg", *TRAIN.split()], folder)
        run([python, "-m", "semiseg", "report", "runs"], folder)
        (result,) = folder.glob("runs/**/result.json")
        if '"completed"' not in result.read_text():
            sys.exit(f"error: the run did not complete: {result.read_text()[:500]}")
        print(f"{wheel.name}: installed outside the checkout, trained 3 steps, wrote a report")


if __name__ == "__main__":
    main()
