"""``semiseg bench step``: where the time and memory of one optimizer step go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from semiseg.commands.args import option, parse
from semiseg.commands.evaluate import check_output
from semiseg.config.check import check_overrides, top_level_names
from semiseg.errors import InputError, suggest

if TYPE_CHECKING:
    from semiseg.training.step_profile import StepProfile


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Trains a few steps of any run and times their parts: data wait, forward passes, loss, backward pass, optimizer...

    Takes every key of ``semiseg train``: method=, model=, crop_size=, experiment=, data.root=, ...
    On a GPU the device is synchronized between the parts, so a step takes longer here than in training.
    """

    usage: ClassVar = "semiseg bench step method=NAME [group=option key=value ...]"

    steps: Annotated[int, Field(ge=1)] = option("steps to measure, after three warm-up steps", 10)
    output: Path | None = option("write the numbers as JSON", value="FILE")
    overwrite: bool = option("replace an existing output file", False)


def main(argv: Sequence[str]) -> int:
    """Print the parts of a step."""
    if argv and argv[0] != "step" and not argv[0].startswith("-"):
        raise InputError(f"unknown action 'bench {argv[0]}': {suggest(argv[0], ['step'])}")
    if (parsed := parse(argv[1:] if argv[:1] == ["step"] else ["--help"], Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    if arguments.output is not None:
        check_output(arguments.output, overwrite=arguments.overwrite)
    check_overrides(overrides)
    from semiseg.config import compose_config
    from semiseg.config.settings import read_settings
    from semiseg.runs.files import write_json
    from semiseg.training.step_profile import profile_step

    profile = profile_step(read_settings(compose_config(overrides)), steps=arguments.steps)
    print(table(profile))
    if arguments.output is not None:
        record: dict[str, Any] = {"overrides": overrides, **asdict(profile), "utilization": profile.utilization}
        write_json(arguments.output, record)
    return 0


def table(profile: StepProfile) -> str:
    """Parts of a step by decreasing time, then the totals of the step."""
    parts = sorted(profile.seconds.items(), key=lambda item: (item[0] == "rest", -item[1]))
    width = max(len(name) for name, _ in parts)
    lines = [f"{name.ljust(width)}  {1e3 * s:9.2f} ms  {100 * s / profile.total:5.1f} %" for name, s in parts]
    return "\n".join(
        [
            *lines,
            f"{'step'.ljust(width)}  {1e3 * profile.total:9.2f} ms",
            f"operations {profile.flops / 1e9:.2f} GFLOP, {100 * profile.utilization:.0f} % of the matmul rate of this "
            f"device ({profile.matrix_flops / 1e9:.0f} GFLOP/s)",
            f"peak memory of the forward and backward pass {profile.peak_memory / 2**20:.0f} MiB",
        ]
    )
