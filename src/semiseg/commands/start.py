"""``semiseg start``: suggests a training command for a folder of photos and this machine."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from semiseg.commands.args import option, parse, with_source
from semiseg.config.check import check_overrides, top_level_names
from semiseg.config.quoting import quoted
from semiseg.errors import InputError

if TYPE_CHECKING:
    from semiseg.training.proposal import FolderFacts, MachineFacts, Proposal


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inspects a folder of photos and this machine, and suggests one training command with its reasons.

    Time and memory are estimated from five steps of that command. Writes and downloads nothing. Keys of 'semiseg train'
    can be set, and are then left out of the proposal. --yes is short for yes=true.
    """

    usage: ClassVar = "semiseg start DIR [key=value ...]"

    source: Path | None = option("images/, masks/, classes.yaml; source= may be omitted", value="DIR")
    yes: bool = option("run the command", False)


def main(argv: Sequence[str]) -> int:
    """Suggest, measure, and optionally run the command."""
    words = with_source(["yes=true" if a == "--yes" else a for a in argv])
    if (parsed := parse(words, Arguments, known=top_level_names)) is None:
        return 0
    arguments, given = parsed
    if arguments.source is None:
        raise InputError("semiseg start DIR: the folder of the photos is missing")
    fixed = ["data=folder", quoted("data.root", arguments.source), *given]
    if twice := [o for o in given if o.startswith(("data=", "data.root="))]:
        raise InputError(f"{twice[0]}: semiseg start takes a folder of your own images; remove this")
    if recipe := [o for o in given if o.startswith("experiment=")]:
        raise InputError(f"{recipe[0]} is a whole recipe: use semiseg train with dry_run=true")
    check_overrides(fixed)
    from semiseg.config import compose_config
    from semiseg.config.settings import read_settings
    from semiseg.training.assemble import list_data
    from semiseg.training.dry_run import DryRun, dry_run, figures
    from semiseg.training.facts import folder_facts, machine_facts
    from semiseg.training.proposal import propose, with_length

    cfg = compose_config(fixed)
    keys = {o.lstrip("+~").partition("=")[0] for o in given}
    folder, machine = folder_facts(list_data(read_settings(cfg))), machine_facts()
    proposal = propose(folder, machine, keys)
    print("\n".join(facts(arguments.source, folder, machine)), flush=True)
    found = dry_run([*fixed, *proposal.overrides])
    if isinstance(found, DryRun):
        proposal = with_length(proposal, machine, found.speed.step)
        overrides = [*fixed, *proposal.overrides]
        settings = read_settings(compose_config(overrides))
        found = dataclasses.replace(found, steps=settings.max_steps or found.steps, val_every=settings.val_every)
        print("\n".join([*choices(proposal), *figures(found)]))
        print("\n".join(f"  note      {note}" for note in [*found.prepared.assembly.warnings, *proposal.notes]))
    overrides = [*fixed, *proposal.overrides]
    command = shlex.join(["semiseg", "train", *overrides])
    if not arguments.yes:
        print(f"next: {command}")
        return 0
    print(f"runs: {command}", flush=True)
    from semiseg.commands.train import main as train

    return train(overrides)


def facts(place: Path, folder: FolderFacts, machine: MachineFacts) -> list[str]:
    """Summary of the data and the machine."""
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in list(folder.shares.items())[:12])
    more = f" and {len(folder.shares) - 12} more" if len(folder.shares) > 12 else ""
    device = f"{machine.gpu}, {machine.gpu_gb:.0f} GiB" if machine.gpu else "no GPU"
    return [
        f"{place}: {folder.labeled} labeled, {folder.unlabeled} unlabeled, {folder.validation} validation photos",
        f"  photos    {folder.long} x {folder.short} pixels (median sides)",
        f"  classes   {shares}{more} of the labeled pixels",
        f"  machine   {machine.cores} cores, {device}",
    ]


def choices(proposal: Proposal) -> list[str]:
    """The parts of the command with their reasons."""
    return [f"  {c.name:9} {' '.join(c.overrides)}: {c.reason}" for c in proposal.choices]
