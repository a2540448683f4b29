"""The loggers of a run: always CSV, plus those selected by ``logger=``."""

from __future__ import annotations

import http.client
import logging
import os
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from semiseg.config.settings import Settings
from semiseg.errors import InputError
from semiseg.runs.folder import RunFolder
from semiseg.training.callbacks.csv_logger import CsvLogger

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds to wait for the wandb server."""


def build_loggers(settings: Settings, folder: RunFolder, protocol: str) -> list[Any]:
    """Open the loggers in a run folder.

    Args:
        settings: settings of the run.
        folder: where the loggers write.
        protocol: the name results are filed under.

    Raises:
        InputError: a logger has a wrong setting, or its package is not installed.
    """
    loggers: list[Any] = [CsvLogger(folder.metrics)]
    for name, make in settings.make.loggers.items():
        place: dict[str, Any] = {"save_dir": str(folder)}
        if name == "wandb":
            place |= wandb_settings(settings, folder, protocol)
            make = reachable_or_offline(make, settings.resolved["logger"]["wandb"].get("mode"))
        elif name == "tensorboard":
            place |= {"name": "tensorboard", "version": ""}
        loggers.append(make(**place))
    return loggers


def reachable_or_offline(make: Callable[..., Any], mode: str | None) -> Callable[..., Any]:
    """Open wandb online, or offline if its server does not respond: a run does not fail without a network.

    Args:
        make: factory that takes the location the logger writes to.
        mode: wandb mode; only ``online`` needs the server.
    """
    if mode != "online" or getattr(rank_zero_only, "rank", None) not in (0, None):
        return make

    def opened(**place: Any) -> Any:
        import wandb

        server = str(wandb.setup().settings.base_url)
        if reason := no_answer(server):
            log.warning("wandb: no answer from %s (%s); going offline: upload later with wandb sync", server, reason)
            return make(**place, mode="offline")
        try:
            return make(**place, settings=wandb.Settings(init_timeout=PATIENCE))
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as e:
            raise InputError(f"logger.wandb.mode=online: {' '.join(str(e).split())[:200]}") from e
        except wandb.errors.CommError as e:
            log.warning("wandb: %s; going offline: upload later with wandb sync", " ".join(str(e).split())[:200])
            return make(**place, mode="offline")

    return opened


def no_answer(server: str) -> str:
    """Why a server cannot be reached within `PATIENCE` seconds; empty if it answers with any response."""
    found = [f"no answer within {PATIENCE:g} seconds"]

    def ask() -> None:
        try:
            urllib.request.urlopen(server, timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError, http.client.HTTPException) as e:
            found[0] = str(getattr(e, "reason", e)) or type(e).__name__
            return
        found[0] = ""

    # In a thread: a socket's time limit covers neither name resolution nor an answer that arrives byte by byte.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return found[0]


def close_loggers(trainer: pl.Trainer) -> None:
    """End the wandb run: the next job of a sweep in this process must not write into it."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()


def wandb_settings(settings: Settings, folder: RunFolder, protocol: str) -> dict[str, Any]:
    """Name, id, tags and configuration of the wandb run of a folder, which wandb can group by.

    A resumed run keeps its id. Offline, that creates a second folder with the same id, since wandb cannot resume
    without its server; ``wandb sync --append`` merges both into one run, with ``trainer/global_step`` as x axis.
    """
    data, _, partition = protocol.partition("/")
    names = {
        "study": settings.study, "data": data, "partition": partition, "method": settings.method,
        "model": settings.model, "seed": settings.seed,
    }  # fmt: skip
    return {
        "name": folder.name,
        "id": wandb_id(folder.wandb_id, anew=settings.overwrite),
        "resume": "allow",
        "tags": [protocol, settings.method, settings.model, f"seed_{settings.seed}"],
        "config": {**settings.resolved, "names": names},
    }


def wandb_id(path: Path, *, anew: bool) -> str:
    """The wandb run id of the folder, kept in a file; a restarted run gets a new one."""
    if getattr(rank_zero_only, "rank", 0):
        return ""  # only the first process has a wandb run
    if of_agent := os.environ.get("WANDB_RUN_ID"):
        return of_agent  # a wandb agent identifies its runs by it
    if anew or not path.exists():
        path.write_text(secrets.token_hex(6) + "\n")
    return path.read_text().strip()
