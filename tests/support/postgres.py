"""A PostgreSQL server for a test: Debian's package, a free port, an unprivileged user, a folder that is deleted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def binaries() -> Path | None:
    found = shutil.which("initdb")
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *([Path(found).parent] if found else [])]
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """URL of an empty database; skips the test, with the reason, where there is no server to start."""
    pytest.importorskip("psycopg")
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = None
    if os.getuid() == 0:  # the server refuses to run as root
        names = [u.pw_name for u in pwd.getpwall()]
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="semiseg_pg_"))
    if user:
        shutil.chown(folder, user)
    port = free_port()

    def call(*command: str | Path) -> None:
        log = folder / "command.log"
        with log.open("w") as out:
            done = subprocess.run([*map(str, command)], user=user, cwd=folder, stdout=out, stderr=out, check=False)
        assert done.returncode == 0, log.read_text()

    try:
        call(programs / "initdb", "-D", folder / "data", "-U", "semiseg", "--auth=trust", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        call(programs / "pg_ctl", "-D", folder / "data", "-l", folder / "server.log", "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://semiseg@127.0.0.1:{port}/postgres"
        finally:
            call(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
