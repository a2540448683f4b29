"""A run folder during its run: the files that define the run, the log, and the earlier run until it is replaced."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from semiseg.config.settings import Settings
from semiseg.config.stored import config_yaml
from semiseg.errors import InputError, RunFailed
from semiseg.runs.files import write_json, write_text
from semiseg.runs.folder import RunFolder
from semiseg.runs.overwrite import restore_replaced, set_aside
from semiseg.training.launch import rank

log = logging.getLogger(__name__)


@contextlib.contextmanager
def opened(folder: RunFolder, settings: Settings, data: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[None]:
    """Write the files that define the run, after everything else has been checked.

    With ``overwrite=true`` the earlier run is moved aside; it is restored if the new one ends without a checkpoint.

    Raises:
        InputError: the files cannot be written.
    """
    if rank() != 0:
        with log_file(folder):
            yield
        return
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if not os.access(folder.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if settings.overwrite:
            set_aside(folder.path)
        write_json(folder.data, dict(data))  # again when resuming: the data may have moved
        if not folder.config.exists():
            write_text(folder.overrides, config_yaml(list(overrides)))
            write_text(folder.config, config_yaml(settings.stored))  # last: its presence marks a run folder
    except OSError as e:
        with contextlib.suppress(OSError):
            restore_replaced(folder.path)
        raise InputError(f"cannot write to the run folder {folder} ({e.strerror}); set paths.runs=DIR") from e
    try:
        with log_file(folder):
            yield
    except BaseException:
        if restore_replaced(folder.path):
            log.warning("the earlier run was restored: the new one ended without a checkpoint")
        raise


class log_file:
    """Writes all log messages and unexpected errors to log.txt during the run."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.log
        self.handler = logging.FileHandler(folder.log, delay=True)
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self.handler)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        logging.getLogger().removeHandler(self.handler)
        with contextlib.suppress(OSError):  # a full disk must not hide why the run ended
            if isinstance(error, (InputError, RunFailed)):
                self._add(f"error: {error}\n")
            elif error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._add("".join(traceback.format_exception(error)))
            self.handler.close()

    def _add(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)
