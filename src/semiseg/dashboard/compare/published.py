"""Published numbers next to own runs: only on the same labeled images, marked where they are not comparable.

The numbers and their sources are in ``published_results.csv``. The rules below turn its notes into short marks; a note
that matches no rule is still shown in full.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from semiseg.dashboard.compare.tables import Group, Section
from semiseg.data.partitions.official import official_name, official_partition

# Protocol names in the file, and the prefixes of ours. U2PL's Cityscapes lists are recognized by the notes.
_PREFIX = {
    "voc-classic": "voc/classic_", "voc-blender": "voc/blender_", "voc-u2pl": "voc/u2pl_",
    "cityscapes": "cityscapes/", "coco": "coco/", "ade20k": "ade20k/",
}  # fmt: skip

# Encoders of our models, by name prefix, in the file's spelling.
_ENCODERS = {
    "deeplabv3plus_r50": "ResNet-50", "deeplabv3plus_r101": "ResNet-101", "deeplabv3_r50": "ResNet-50",
    "deeplabv3_r101": "ResNet-101", "segformer_b5": "MiT-B5", "dpt_dinov2_s": "DINOv2-S",
    "dpt_dinov2_b": "DINOv2-B", "dpt_dinov2_l": "DINOv2-L",
}  # fmt: skip

# Pretraining beyond ImageNet labels, by prefix of the encoder's name.
_PRETRAINING = {"DINOv2": "DINOv2", "CLIP": "CLIP", "SAM": "SAM", "BEiT": "BEiT"}

OTHER_LISTS = "other lists"

# Mark: pattern in the notes. Only explicit statements count; missing information is not marked.
_MARKS = {
    OTHER_LISTS: r"at run time|own random lists|different label sets|protocols mixed",
    "lists assumed": r"lists? (are )?assumed|family assumed",
    "best epoch": r"best (EMA )?epochs?|best epoch of|best epochs|best so far|best seed",
    "extra data": r"extra out-of-distribution|foundation model|train_extra|unlabeled2017|COCO images as unlabeled"
    r"|all 10,582 masks|seen image captions",
    "encoder frozen": r"encoder frozen",
    "quoted": r"as quoted|as tabulated|borrowed from|secondary",
    "re-run by others": r"re-implementation|reproduced by UniMatch|re-run on|the U2PL re-run",
    "caution": r"caution|disagrees|labels this row",
}
_U2PL_LISTS = r"U2PL (lists|family)|lists of U2PL|the U2PL lists|split lists: U2PL"

_EVALUATIONS = {  # pattern in the notes: label, and the names of our equivalent modes
    r"no sliding window": ("whole image", ("Whole", "Resize")),
    r"(?<!no )sliding window": ("sliding window", ("Sliding",)),
    r"rounded to multiples": ("sides rounded to the patch", ("Resize",)),
    r"short side 512": ("short side 512", ()),
}


@dataclass(frozen=True)
class Cell:
    """One published number.

    Attributes:
        official: name of our protocol with the same labeled images, such as "voc/classic_92".
        miou, miou_last: in percent, as published; at the last epoch if the source gives it.
        seeds: number of runs behind the number; None if the source does not say.
        evaluation: evaluation mode according to the source; "" if not stated.
        marks: what limits comparability; `marks_against` adds those that depend on the own run.
    """

    official: str
    method: str
    venue: str
    encoder: str
    decoder: str
    crop: str
    miou: float
    miou_last: float | None
    seeds: int | None
    evaluation: str
    marks: tuple[str, ...]
    source: str
    notes: str

    @property
    def pretraining(self) -> str:
        """Pretraining of the encoder: "ImageNet" unless its name indicates more; "" for an unknown encoder."""
        if not self.encoder:
            return ""
        return next((name for start, name in _PRETRAINING.items() if self.encoder.startswith(start)), "ImageNet")


@dataclass(frozen=True)
class Beside:
    """Published cells for the labeled images that ``groups`` were trained on.

    Attributes:
        same_encoder, other_encoders: highest first.
        other_lists: cells with the same protocol name whose source used other images; never in the same table.
    """

    official: str
    groups: tuple[Group, ...]
    evaluation: str
    same_encoder: tuple[Cell, ...]
    other_encoders: tuple[Cell, ...]
    other_lists: tuple[Cell, ...]


def beside(section: Section) -> list[Beside]:
    """The published cells of each official list used by runs of the section; none for other lists.

    Lists are matched by the hash of the labeled ids, not by the protocol name.
    """
    found = []
    for sha256 in dict.fromkeys(group.key.labeled_ids_sha256 for group in section.groups):
        official = official_name(section.data, sha256)
        cells = [cell for cell in published_cells() if cell.official == official]
        if official is None or not cells:
            continue
        groups = tuple(group for group in section.groups if group.key.labeled_ids_sha256 == sha256)
        modes = sorted({run.evaluation for group in groups for run in group.runs if run.evaluation})
        cells.sort(key=lambda cell: -cell.miou)
        same_lists = [cell for cell in cells if OTHER_LISTS not in cell.marks]
        encoder = own_encoder(section.model)
        found.append(
            Beside(
                official,
                groups,
                ", ".join(modes) or "not recorded",
                tuple(cell for cell in same_lists if cell.encoder == encoder),
                tuple(cell for cell in same_lists if cell.encoder != encoder),
                tuple(cell for cell in cells if OTHER_LISTS in cell.marks),
            )
        )
    return found


def own_encoder(model: str) -> str | None:
    """The encoder of one of our models as named in the published tables; None if they have none like it."""
    starts = [start for start in _ENCODERS if model == start or model.startswith(f"{start}_")]
    return _ENCODERS[max(starts, key=len)] if starts else None


def marks_against(cell: Cell, block: Beside) -> tuple[str, ...]:
    """Everything that limits the comparison of a published cell with the own runs of its block."""
    marks = list(cell.marks)
    model = block.groups[0].key.model
    if cell.encoder != own_encoder(model):
        marks.append("other encoder")
    started = {run.weights for group in block.groups for run in group.runs}
    if started == {"none"}:
        marks.append("pretrained, own is not")
    elif cell.pretraining and cell.pretraining != _own_pretraining(model):
        marks.append(f"{cell.pretraining} pretraining")
    same = next((modes for name, modes in _EVALUATIONS.values() if name == cell.evaluation), None)
    own_modes = block.evaluation.split(", ")
    if same is not None and not set(own_modes) <= set(same):
        marks.append(f"evaluation: {cell.evaluation}")
    return tuple(marks)


def _own_pretraining(model: str) -> str:
    encoder = own_encoder(model) or ""
    return next((name for start, name in _PRETRAINING.items() if encoder.startswith(start)), "ImageNet")


@functools.cache
def published_cells() -> tuple[Cell, ...]:
    """Every published number whose labeled images are one of the official lists."""
    text = resources.files("semiseg.dashboard.compare").joinpath("published_results.csv").read_text(encoding="utf-8")
    cells = (_cell(row) for row in csv.DictReader(text.splitlines()))
    return tuple(cell for cell in cells if cell is not None)


def _cell(row: dict[str, str]) -> Cell | None:
    official = _official(row)
    if official is None:
        return None
    notes, source = row["notes"], row["source"]
    if (of := re.match(r"(\d+): ", notes)) and of[1] != row["labeled_count"]:
        notes = ""  # the note is about another cell of the same table
    said = f"{notes}; {source}"
    marks = [mark for mark, pattern in _MARKS.items() if re.search(pattern, said if mark == "quoted" else notes)]
    if re.search(_U2PL_LISTS, notes) and "u2pl" not in official and OTHER_LISTS not in marks:
        marks.insert(0, OTHER_LISTS)
    if (log := re.search(r"(\d+) of (\d+) epochs in the log", notes)) and log[1] != log[2]:
        marks.append(f"log ends at epoch {log[1]} of {log[2]}")
    last = re.search(r"last(?: epochs?)? (\d+\.\d+)", notes)
    return Cell(
        official=official,
        method=row["method"],
        venue=" ".join(part for part in (row["venue"].strip("-"), row["year"]) if part),
        encoder=row["encoder"],
        decoder=row["decoder"],
        crop=row["crop"],
        miou=float(row["miou"]),
        miou_last=float(last[1]) if last else None,
        seeds=_seeds(f"{row['method']}; {notes}"),
        evaluation=next((name for pattern, (name, _) in _EVALUATIONS.items() if re.search(pattern, notes)), ""),
        marks=tuple(marks),
        source=source,
        notes=notes,
    )


def _official(row: dict[str, str]) -> str | None:
    """Our name for the partition; None for sizes without a public list."""
    prefix = _PREFIX.get(row["protocol"])
    if prefix is None:
        return None
    part = row["partition"].replace("/", "_")
    if row["protocol"] == "cityscapes" and re.search(_U2PL_LISTS, row["notes"]):
        part = f"u2pl_{part}"
    if "CAC lists" in row["notes"]:
        return f"voc/cac_{part}"
    if row["protocol"] == "ade20k" and row["labeled_count"] == "632":
        part = f"semivl_{part}"
    if row["protocol"] == "voc-classic" and "its 732 list is the CPS one" in row["notes"] and part == "732":
        part = "732_cps"
    partition = official_partition(f"{prefix}{part}")
    if partition is None or str(partition.n_labeled) != row["labeled_count"]:
        return None
    return partition.name


def _seeds(said: str) -> int | None:
    """Number of runs behind a number, if its notes state it."""
    if re.search(r"best seed|\b1 seed\b|epochs in the log|best epoch on val; last", said) and "mean of" not in said:
        return 1
    several = re.search(r"mean of (?:the best epochs of )?(\d+) (?:runs|seeds|logs)", said)
    return int(several[1]) if several else None


def text_cells(block: Beside, limit: int = 12) -> Sequence[Cell]:
    """The cells for a plain-text table: those with the same encoder, or else all; highest first."""
    return (block.same_encoder or block.other_encoders)[:limit]
