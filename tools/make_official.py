"""Write `src/semiseg/data/lists/official.json`, the facts about published partitions.

    python tools/make_official.py MANIFEST

MANIFEST is a JSON file with one record for each list file of the public repositories: data set, partition, role,
number of ids, sha256 of the file and of its id set, line format, repository, commit and path. The lists that come
with the package (CamVid) are read from `lists/` next to the result. Only needed when adding a partition.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from semiseg.data.partitions.list_files import id_set_sha256
from semiseg.data.partitions.official import FACTS, LISTS

# name, family, file of the labeled ids. The unlabeled ids are in the file of the other name next to it.
VOC = [
    *(
        (f"voc/classic_{n}", "voc-classic", f"UniMatch-V2:splits/pascal/{n}/labeled.txt")
        for n in (92, 183, 366, 732, 1464)
    ),
    ("voc/classic_732_cps", "voc-classic-cps", "PS-MT:VocCode/DataLoader/voc_splits/732_train_supervised.txt"),
    *((f"voc/blender_1_{n}", "voc-blender", f"AllSpark:splits/pascal/1_{n}/labeled.txt") for n in (16, 8, 4, 2)),
    *(
        (f"voc/u2pl_1_{n}", "voc-u2pl", f"U2PL:data/splits/pascal/{count}/labeled.txt")
        for n, count in ((16, 662), (8, 1323), (4, 2646), (2, 5291))
    ),
    *(
        (f"voc/cac_1_{n}", "voc-cac", f"ST-PlusPlus:dataset/splits/pascal/1_{n}/split_0/labeled.txt")
        for n in (16, 8, 4)
    ),
]
CITYSCAPES = [
    *(
        (f"cityscapes/1_{n}", "cityscapes", f"UniMatch-V2:splits/cityscapes/1_{n}/labeled.txt")
        for n in (30, 16, 8, 4, 2)
    ),
    *(
        (f"cityscapes/u2pl_1_{n}", "cityscapes-u2pl", f"U2PL:data/splits/cityscapes/{count}/labeled.txt")
        for n, count in ((16, 186), (8, 372), (4, 744), (2, 1488))
    ),
]
COCO = [(f"coco/1_{n}", "coco", f"UniMatch-V2:splits/coco/1_{n}/labeled.txt") for n in (512, 256, 128, 64, 32)]
ADE20K = [
    ("ade20k/1_128", "ade20k", "semivl:splits/ade/1_128/labeled.txt"),
    *((f"ade20k/1_{n}", "ade20k", f"UniMatch-V2:splits/ade20k/1_{n}/labeled.txt") for n in (64, 32, 16, 8, 4, 2)),
    ("ade20k/semivl_1_32", "ade20k-semivl", "semivl:splits/ade/1_32/labeled.txt"),
]
CONTEXT = [
    (f"pascal_context/1_{n}", "pascal-context", f"SemiOVS:semiovs/splits/pc60/1_{n}/labeled.txt")
    for n in (32, 16, 8, 4, 2)
]
CAMVID = [f"camvid/1_{n}" for n in (32, 16, 8, 4, 2)]
CAMVID_TRAIN = 367
COCO_TRAIN = 118287


def main(manifest: str) -> None:
    """Write the facts."""
    records = [r for r in json.loads(Path(manifest).read_text())["records"] if r["id_set_sha256"]]
    by_file = {f"{_short(r)}:{r['source']['path']}": r for r in records}
    partitions = [_published(records, by_file, *entry) for entry in (*VOC, *CITYSCAPES, *COCO, *ADE20K, *CONTEXT)] + [
        _own(name) for name in CAMVID
    ]
    repositories = {_short(r): r["source"] for r in records}
    used = {f[0] for p in partitions for role in ("labeled", "unlabeled") for f in p[role]["files"]}
    facts = {
        "about": "Published partitions, made by tools/make_official.py. sha256: of the sorted image ids; "
        "files: repository, path, sha256 of the file, line format.",
        "repositories": {
            name: {"name": s["repository"].removeprefix("github.com/"), "commit": s["commit"]}
            for name, s in sorted(repositories.items())
            if name in used
        },
        "partitions": partitions,
    }
    FACTS.write_text(_text(facts), encoding="utf-8")
    print(f"{FACTS}: {len(partitions)} partitions")


def _published(records: list[Any], by_file: dict[str, Any], name: str, family: str, file: str) -> dict[str, Any]:
    labeled = by_file[file]
    other = file.replace("/labeled.txt", "/unlabeled.txt").replace("_supervised", "_unsupervised")
    unlabeled = by_file.get(other)
    entry: dict[str, Any] = {"name": name, "family": family, "labeled": _role(records, labeled)}
    if unlabeled is None:
        assert name.startswith("coco/"), other
        entry["unlabeled"] = {"count": COCO_TRAIN - labeled["unique_ids"], "sha256": None, "files": []}
    else:
        entry["unlabeled"] = _role(records, unlabeled)
    return entry


def _role(records: list[Any], first: Any) -> dict[str, Any]:
    same = [
        r
        for r in records
        if all(r[key] == first[key] for key in ("dataset", "role", "id_set_sha256")) and _short(r) != _short(first)
    ]
    files = [[_short(r), r["source"]["path"], r["sha256"], r["line_format"]] for r in (first, *same)]
    return {"count": first["unique_ids"], "sha256": first["id_set_sha256"], "files": files}


def _own(name: str) -> dict[str, Any]:
    ids = (LISTS / f"{name}.txt").read_text().split()
    labeled = {"count": len(ids), "sha256": id_set_sha256(ids), "files": []}
    unlabeled = {"count": CAMVID_TRAIN - len(ids), "sha256": None, "files": []}
    return {"name": name, "family": "camvid", "labeled": labeled, "unlabeled": unlabeled}


def _text(facts: dict[str, Any]) -> str:
    """JSON with one line for each published file, so that a change can be read."""

    def role(name: str, part: dict[str, Any]) -> str:
        head = f'   "{name}": {{"count": {part["count"]}, "sha256": {json.dumps(part["sha256"])}, "files": ['
        return head + ",".join(f"\n    {json.dumps(f)}" for f in part["files"]) + "]}"

    partitions = (
        f'  {{"name": "{p["name"]}", "family": "{p["family"]}",\n'
        f"{role('labeled', p['labeled'])},\n{role('unlabeled', p['unlabeled'])}}}"
        for p in facts["partitions"]
    )
    repositories = ",".join(f'\n  "{name}": {json.dumps(r)}' for name, r in facts["repositories"].items())
    return (
        f'{{\n "about": {json.dumps(facts["about"])},\n "repositories": {{{repositories}\n }},\n'
        ' "partitions": [\n' + ",\n".join(partitions) + "\n ]\n}\n"
    )


def _short(record: Any) -> str:
    return record["source"]["repository"].rsplit("/", 1)[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
