"""A MariaDB server for a test: Debian's package, a free port, an unprivileged user, a folder that is deleted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import free_port


@contextlib.contextmanager
def server() -> Iterator[str]:
    """URL of an empty database; skips the test, with the reason, where there is no server to start."""
    pymysql = pytest.importorskip("pymysql")
    install, daemon = (
        shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        for name in ("mariadb-install-db", "mariadbd")
    )
    if not install or not daemon:
        pytest.skip("MariaDB is not installed (Debian: apt-get install mariadb-server)")
    user = None
    if os.getuid() == 0:  # the server refuses to run as root
        user = next((u.pw_name for u in pwd.getpwall() if u.pw_name in ("mysql", "nobody")), None)
        if user is None:
            pytest.skip("MariaDB does not run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="semiseg_my_"))
    if user:
        shutil.chown(folder, user)
    data, log, port = f"--datadir={folder}/data", folder / "server.log", free_port()
    running = None
    try:
        with log.open("w") as out:
            made = [install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"]
            done = subprocess.run(made, user=user, cwd=folder, stdout=out, stderr=out, check=False)
            assert done.returncode == 0, log.read_text()
            place = [
                f"--socket={folder}/socket",
                f"--pid-file={folder}/pid",
                f"--port={port}",
                "--bind-address=127.0.0.1",
            ]
            command = [daemon, "--no-defaults", data, *place, "--innodb-flush-log-at-trx-commit=0"]
            running = subprocess.Popen(command, user=user, cwd=folder, stdout=out, stderr=out)
        deadline = time.monotonic() + 120
        while True:
            try:
                with pymysql.connect(host="127.0.0.1", port=port, user="root") as connection:
                    connection.cursor().execute("CREATE DATABASE semiseg")
                break
            except pymysql.err.OperationalError:
                assert running.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield f"mysql+pymysql://root@127.0.0.1:{port}/semiseg"
    finally:
        if running is not None:
            running.kill()
            running.wait()
        shutil.rmtree(folder, ignore_errors=True)
