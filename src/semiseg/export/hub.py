"""Models on the Hugging Face hub: a checkpoint, its card and exports. The network is used only on request."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from semiseg.config.quoting import PATHS
from semiseg.config.settings import stored_settings
from semiseg.errors import InputError
from semiseg.export.card import write_card
from semiseg.export.formats import Format
from semiseg.export.write import FORMATS, facts_of
from semiseg.runs.checkpoint import load_checkpoint

CHECKPOINT = "model.ckpt"
"""The file in a repository that ``semiseg.load`` reads."""
PREFIX = "hf://"
KEPT = ("state_dict", "semiseg", "global_step", "pytorch-lightning_version")
"""The parts of a checkpoint that are uploaded: no optimizer, callback or loop state."""
NAMES = (
    {module.FILE for module in FORMATS.values()}
    | {"model.bin"}
    | {name for form in get_args(Format) for name in (f"{form}.json", f"run_{form}.py")}
)
"""Export files."""


def checkpoint_from_hub(address: str) -> Path:
    """Download the checkpoint of ``hf://OWNER/NAME[@REVISION]`` into the ``huggingface_hub`` cache.

    Raises:
        InputError: the address is invalid, or the model cannot be downloaded.
    """
    import huggingface_hub

    name, _, revision = address.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"'{address}': expected hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    try:
        return Path(huggingface_hub.hf_hub_download(name, CHECKPOINT, revision=revision or None))
    except Exception as e:  # errors of the hub client, the HTTP client, or the disk
        raise InputError(f"{address} cannot be downloaded ({type(e).__name__}: {_line(e)})") from e


def push(path: Path, repo: str, *, exports: Path | None = None, private: bool = True) -> str:
    """Upload a checkpoint and its card to a repository on the hub, which is created if missing.

    Args:
        path: the checkpoint.
        repo: ``OWNER/NAME``.
        exports: a folder of exported files to upload as well.
        private: whether a new repository is private; an existing one is not changed.

    Returns:
        The URL of the repository.

    Raises:
        InputError: the upload failed.
    """
    import huggingface_hub

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise InputError(f"repo={repo}: expected OWNER/NAME")
    with tempfile.TemporaryDirectory(prefix="semiseg_") as name:
        folder = Path(name)
        fill(folder, path, repo, exports)
        try:
            client = huggingface_hub.HfApi()
            url = client.create_repo(repo, private=private, exist_ok=True)
            client.upload_folder(repo_id=repo, folder_path=folder, commit_message="semiseg push")
        except Exception as e:
            raise InputError(f"repo={repo}: failed ({type(e).__name__}: {_line(e)}); see 'hf auth whoami'") from e
    return str(url)


def fill(folder: Path, path: Path, repo: str, exports: Path | None = None) -> None:
    """Collect the contents of a repository: ``model.ckpt``, ``README.md`` and exported files."""
    checkpoint = load_checkpoint(path)
    settings = stored_settings(checkpoint["semiseg"]["config"])
    if exports is not None and exports.is_dir():
        for file in exports.iterdir():
            if file.name in NAMES:
                shutil.copy(file, folder)
    slim = {key: checkpoint[key] for key in KEPT if key in checkpoint}
    slim["semiseg"] = without_paths(slim["semiseg"])
    torch.save(slim, folder / CHECKPOINT)
    write_card(folder, path, facts_of(settings, checkpoint, path), settings.crop_size, repo)


def without_paths(info: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a checkpoint without local paths of the machine it was trained on."""
    cleaned = copy.deepcopy(dict(info))
    for key in PATHS:
        node, _, name = key.rpartition(".")
        section = cleaned["config"].get(node) if node else cleaned["config"]
        if isinstance(section, dict) and section.get(name) is not None:
            section[name] = "runs" if key == "paths.runs" else None
    if isinstance(cleaned.get("data"), dict):
        cleaned["data"]["root"] = None
    return cleaned


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
