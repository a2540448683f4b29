"""torchrun without its error report: started by ``semiseg.training.launch``, which reports errors in one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

from semiseg.runs.files import write_json
from semiseg.sweep.processes import PARENT
from semiseg.training.launch import end_with_parent


def main(parent: int, report: str, arguments: list[str]) -> int:
    """Run torchrun; a killed process cannot record its own error, so it is recorded in ``report``.

    Args:
        parent: process id of the process that started this one.
        report: a JSON file; "-" for one of several nodes, whose processes print their errors.
        arguments: arguments of torchrun.
    """
    end_with_parent(parent)
    if report == "-":
        os.environ[PARENT] = str(os.getpid())  # the processes stop with a checkpoint when this one is gone
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(get_args_parser().parse_args(arguments))
    except SignalException:
        return 130
    except ChildFailedError as e:
        for number, failure in e.failures.items():
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:  # torchrun's own way of ending the others
                line = f"killed by {signal.Signals(-failure.exitcode).name} (SIGKILL may mean out of memory)"
                if report == "-":
                    print(f"error: process {number} of the run: {line}", file=sys.stderr)
                else:
                    write_json(Path(report), {"rank": number, "kind": "killed", "line": line, "time": time.time()})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
