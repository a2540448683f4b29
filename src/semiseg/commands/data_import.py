"""``semiseg data import``: convert labels from other tools into a data set for data=folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from semiseg.commands.args import no_more, option, parse, with_source
from semiseg.config.quoting import quoted
from semiseg.errors import InputError

if TYPE_CHECKING:
    from semiseg.data.labels.base import Labels, Source
    from semiseg.data.labels.classes import Mapping
    from semiseg.data.labels.importing import Imported

LISTED = 20  # images printed; import.json lists all


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Reads labels of labelme, COCO, YOLO, Label Studio, CVAT, or mask images; writes DIR for data=folder.

    SOURCE is a folder or one JSON file. It is not modified. Photos without labels become unlabeled images.
    """

    usage: ClassVar = "semiseg data import SOURCE output=DIR [key=value ...]"

    source: Path | None = option("labels and photos; source= may be omitted", value="DIR")
    output: Path | None = option("a new folder: images/, masks/, classes.yaml", value="DIR")
    images: Path | None = option("folder of the photos, if not SOURCE", value="DIR")
    format: Literal["auto", "labelme", "coco", "yolo", "label_studio", "cvat_masks", "masks"] = option(
        "the tool that wrote the labels; auto: detected", "auto"
    )
    classes: Path | None = option("classes.yaml that fixes order, names and colors", value="FILE")
    blank: Literal["background", "ignore"] = option("unannotated pixels: class 0, or ignored", "background")
    mask_name: str | None = option("how masks are named: {stem}_mask", value="PATTERN")
    link: bool = option("link the photos instead of copying them", False)
    overwrite: bool = option("replace files written by an earlier import", False)


def main(argv: Sequence[str]) -> int:
    """Convert the labels and print a summary."""
    if (parsed := parse(with_source(argv), Arguments)) is None:
        return 0
    arguments, rest = parsed
    no_more(rest, Arguments)
    if arguments.source is None:
        raise InputError("semiseg data import SOURCE output=DIR: the folder of the labels is missing")
    if arguments.output is None:
        raise InputError("output=DIR is missing: where images/, masks/ and classes.yaml go")
    from semiseg.data.datasets.class_file import read_class_file
    from semiseg.data.datasets.mask_names import check_pattern
    from semiseg.data.labels.classes import Mapping
    from semiseg.data.labels.detect import read_labels
    from semiseg.data.labels.importing import RANKING, write_dataset

    if arguments.mask_name is not None:
        check_pattern(arguments.mask_name, "mask_name")
    source = open_source(arguments.source, arguments.images)
    given = arguments.classes or source.root / "classes.yaml"
    class_file = read_class_file(given) if arguments.classes or given.is_file() else None
    labels = read_labels(source, arguments.format, class_file=class_file, mask_name=arguments.mask_name)
    mapping = Mapping(labels, arguments.blank, class_file)
    done = write_dataset(source, labels, mapping, arguments.output, link=arguments.link, overwrite=arguments.overwrite)
    print("\n".join(describe(source, labels, mapping, done, "linked" if arguments.link else "copied")))
    if (source.root / RANKING).is_file():
        print(f"next: copy the contents of {arguments.output / 'masks'} to masks/ in your data folder, and train again")
        return 0
    root = quoted("data.root", arguments.output)
    print(f"next: semiseg data check data=folder {shlex.quote(root)}")
    return 0


def open_source(path: Path, images: Path | None) -> Source:
    """The folder, or the folder of a JSON file.

    Raises:
        InputError: it does not exist, or is an archive.
    """
    from semiseg.data.labels.base import Source

    if path.suffix.lower() in (".zip", ".tar", ".gz", ".7z") and path.is_file():
        raise InputError(f"{path}: an archive; unpack it and give the folder")
    if images is not None and not images.is_dir():
        raise InputError(f"images={images}: no such folder; expected the folder of the photos")
    if path.is_dir():
        return Source(path, images or path)
    if path.is_file() and path.suffix.lower() == ".json":
        return Source(path.parent, images or path.parent, only=path)
    raise InputError(f"{path}: no such folder; expected the folder of the labels, or a JSON file")


def describe(source: Source, labels: Labels, mapping: Mapping, done: Imported, how: str) -> list[str]:
    """A summary: counts for each class and each image."""
    total = sum(n.sum() for n in done.pixels.values())
    lines = [
        f"labels: {labels.tool}, {source.only or source.root}",
        f"images: {len(done.ids)} {how}, {len(done.pixels)} labeled, {len(done.ids) - len(done.pixels)} unlabeled",
    ]
    width = max(map(len, [*mapping.names, "ignored"]))
    for k, name in enumerate([*mapping.names, "ignored"]):
        counts = [n[k] for n in done.pixels.values()]
        share = 100 * sum(counts) / total if total else 0
        lines.append(f"  {name.ljust(width)}  {sum(c > 0 for c in counts):6} images  {share:6.2f} % of their pixels")
    for image_id, n in list(done.pixels.items())[:LISTED]:
        shown = [f"{name} {100 * c / n.sum():.1f} %" for name, c in zip([*mapping.names, "ignored"], n) if c]
        lines.append(f"  {image_id}: {', '.join(shown)}")
    if len(done.pixels) > LISTED:
        lines.append(f"  and {len(done.pixels) - LISTED} more, all in import.json")
    lines += [f"note: {note}" for note in labels.remarks(mapping.blank_is_ignored)]
    if done.not_read:
        names = ", ".join(p.name for p in done.not_read[:3])
        lines.append(f"note: {len(done.not_read)} files are of formats that are not read: {names}")
    return lines
