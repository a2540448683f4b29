"""Storage of an Optuna study: a journal file in a shared folder, or a database. Does not import torch."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError
from semiseg.sweep.extras import import_extra

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal://"
"""Prefix of the path of a journal file: ``journal:///shared/runs/study/optuna.journal``."""

TRIES = 5
"""Attempts to open a database."""

RACES = ("OperationalError", "ProgrammingError", "IntegrityError")
"""SQLAlchemy errors when several coordinators start simultaneously and all try to create the tables."""


def import_optuna() -> Any:
    """Import Optuna with its progress messages silenced.

    Raises:
        InputError: it is not installed.
    """
    optuna = import_extra("optuna", "hydra/sweeper=optuna", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def default_storage(folder: Path) -> str:
    """The default storage of a study: a journal in its folder, or the sqlite file of an older study."""
    older = folder / "optuna.db"
    return f"sqlite:///{older}" if older.exists() else f"{JOURNAL}{folder / 'optuna.journal'}"


def check_storage(url: str) -> None:
    """Reject a URL that contains a password, which would be written into the configuration of every run.

    Raises:
        InputError: says where to put the password instead.
    """
    if re.match(r"[\w+]+://[^/@]*:[^/@]+@", url):
        hidden = re.sub(r"://([^/@:]*):[^/@]+@", r"://\1:***@", url)
        raise InputError(
            f"hydra.sweeper.storage={hidden}: the process list would show the password; put it into ~/.pgpass "
            "(PostgreSQL) or an option file (MySQL: ?read_default_file=~/.my.cnf)"
        )


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Open the storage behind a URL.

    Args:
        url: ``journal:///PATH``, or a URL of SQLAlchemy such as ``postgresql+psycopg://USER@HOST/DATABASE``,
            ``mysql+pymysql://USER@HOST/DATABASE`` or ``sqlite:///PATH``.

    Raises:
        InputError: it cannot be opened.
    """
    optuna = import_optuna()
    check_storage(url)
    if url.startswith("journal:"):
        path = Path(url.removeprefix(JOURNAL))
        if not url.startswith(JOURNAL) or not path.is_absolute() or not path.parent.is_dir():
            raise InputError(
                f"hydra.sweeper.storage={url}: expected journal:// and the absolute path of a file, "
                "in a folder that exists"
            )
        # The lock is a symbolic link, which is created atomically on every version of NFS.
        journal = optuna.storages.journal
        return optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": 120}} if sqlite else {"pool_pre_ping": True}
    for attempt in range(1, TRIES + 1):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except Exception as e:  # SQLAlchemy and the drivers raise many types
            missing = isinstance(e, ImportError)
            if attempt < TRIES and type(e).__name__ in RACES and not sqlite:
                time.sleep(0.2 * attempt)
                continue
            line = str(e).splitlines()[0] if str(e) else type(e).__name__
            advice = "; install a driver: pip install 'semiseg[postgresql]' or 'semiseg[mysql]'" if missing else ""
            raise InputError(f"hydra.sweeper.storage={url} cannot be opened: {line}{advice}") from e
    raise AssertionError
