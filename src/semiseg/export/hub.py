"""Models on the Hugging Face hub: a checkpoint, its card, nothing else. The network is used only when asked for."""

from __future__ import annotations

from pathlib import Path

from semiseg.errors import InputError

CHECKPOINT = "model.ckpt"
"""The file of a repository that ``semiseg.load`` reads."""
PREFIX = "hf://"


def checkpoint_from_hub(address: str) -> Path:
    """Fetch the checkpoint of ``hf://OWNER/NAME[@REVISION]`` into the cache of ``huggingface_hub``.

    Raises:
        InputError: the address is wrong, or the model cannot be fetched.
    """
    import huggingface_hub

    name, _, revision = address.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"'{address}': expected hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    try:
        return Path(huggingface_hub.hf_hub_download(name, CHECKPOINT, revision=revision or None))
    except Exception as e:  # its own errors, those of the HTTP client, those of the disk
        raise InputError(f"{address} cannot be fetched ({type(e).__name__}: {_line(e)})") from e


def push(folder: Path, repo: str, *, private: bool = True) -> str:
    """Store the files of a folder in a repository of the hub; it is made if there is none.

    Args:
        folder: holds ``model.ckpt`` and ``README.md``.
        repo: ``OWNER/NAME``.
        private: whether a new repository is; one that exists stays as it is.

    Returns:
        The address of the page.

    Raises:
        InputError: the hub refuses.
    """
    import huggingface_hub

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise InputError(f"repo={repo}: expected OWNER/NAME")
    client = huggingface_hub.HfApi()
    try:
        url = client.create_repo(repo, private=private, exist_ok=True)
        client.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="semiseg push")
    except Exception as e:
        hint = "; log in with 'hf auth login'" if "401" in str(e) or "Token" in type(e).__name__ else ""
        raise InputError(f"repo={repo}: not stored ({type(e).__name__}: {_line(e)}){hint}") from e
    return str(url)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
