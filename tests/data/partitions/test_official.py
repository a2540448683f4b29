"""Published partitions: the facts against the list files, and refusing what does not fit."""

from __future__ import annotations

import pytest

from semiseg.data.partitions import official
from semiseg.data.partitions.fetch import fetch_lists
from semiseg.data.partitions.list_files import id_set_sha256, list_sha256, read_list
from semiseg.data.partitions.official import (
    ListFile,
    OfficialPartition,
    find_official_list,
    list_path,
    official_name,
    official_partitions,
)
from semiseg.data.partitions.splits import make_partition
from semiseg.errors import InputError
from support.dataset_files import ListedDataset
from support.published_lists import collection, content, records

# Labeled and unlabeled images as the papers have them: protocols.md, sections 1 and 3 to 8.
PUBLISHED = {
    "voc-classic": [(92, 10490), (183, 10399), (366, 10216), (732, 9850), (1464, 9118)],
    "voc-classic-cps": [(732, 9850)],
    "voc-blender": [(662, 9920), (1323, 9259), (2646, 7936), (5291, 5291)],
    "voc-u2pl": [(662, 9920), (1323, 9259), (2646, 7936), (5291, 5291)],
    "voc-cac": [(662, 9920), (1323, 9259), (2645, 7937)],
    "cityscapes": [(100, 2875), (186, 2789), (372, 2603), (744, 2231), (1488, 1487)],
    "cityscapes-u2pl": [(186, 2789), (372, 2603), (744, 2231), (1488, 1487)],
    "coco": [(232, 118055), (463, 117824), (925, 117362), (1849, 116438), (3697, 114590)],
    "ade20k": [
        (158, 20052), (316, 19894), (631, 19579), (1263, 18947), (2526, 17684), (5052, 15158), (10105, 10105),
    ],
    "ade20k-semivl": [(632, 19578)],
    "pascal-context": [(156, 4840), (312, 4684), (624, 4372), (1249, 3747), (2498, 2498)],
    "camvid": [(11, 356), (23, 344), (46, 321), (92, 275), (184, 183)],
}  # fmt: skip


def test_counts_are_the_published_ones():
    found: dict[str, list[tuple[int, int]]] = {}
    for p in official_partitions():
        found.setdefault(p.family, []).append((p.n_labeled, p.n_unlabeled))
    assert found == PUBLISHED


def test_names_and_identities_are_unique_within_a_data_set():
    partitions = official_partitions()
    assert len({p.name for p in partitions}) == len(partitions)
    for kind in ("labeled", "unlabeled"):
        known = [(p.data, p.identity(kind)) for p in partitions if p.identity(kind)]
        assert len(set(known)) == len(known)
    for p in partitions:
        assert p.name.startswith(p.data + "/")
        assert official_name(p.data, p.sha256) == p.name
        assert official_name("folder", p.sha256) is None


def test_facts_are_what_the_manifest_says():
    folder = collection()
    by_place = {(r["source"]["repository"], r["source"]["path"]): r for r in records(folder)}
    for p in official_partitions():
        assert bool(p.sources) == (p.data != "camvid")
        for kind, count in (("labeled", p.n_labeled), ("unlabeled", p.n_unlabeled)):
            for file in p.files(kind):
                record = by_place[f"github.com/{file.repository}", file.path]
                assert record["role"] == kind
                assert record["source"]["commit"] == file.commit
                assert (record["sha256"], record["line_format"]) == (file.sha256, file.line_format)
                assert (record["id_set_sha256"], record["unique_ids"]) == (p.identity(kind), count)


def test_every_stored_list_is_read():
    """Each line format of each family: all lines understood, numbers and identities those of the manifest."""
    folder = collection()
    stored = [r for r in records(folder) if r["copy"]]
    assert len(stored) > 100
    assert len({r["line_format"] for r in stored}) > 10
    for record in stored:
        text = content(folder, record)
        ids = [line.split()[0] for line in text.splitlines()]
        plain = sorted({i.rsplit("/", 1)[-1].split(".")[0].removesuffix("_leftImg8bit") for i in ids})
        path = folder.joinpath(record["copy"])
        if path.suffix != ".gz":  # the rest are read the same way; their ids are compared below
            found, problems = read_list(path, plain, "x")
            assert not problems, (record["copy"], problems[:2])
            assert len(found) == record["unique_ids"]
        assert list_sha256(text) == id_set_sha256(plain) == record["id_set_sha256"], record["copy"]
        assert len(plain) == record["unique_ids"]


def pool(data: str, folder) -> list[str]:
    """The ids of a train pool: those of the lists of all its partitions."""
    names = {"voc": "pascal"}
    texts = [content(folder, r) for r in records(folder) if r["dataset"] == names.get(data, data) and r["copy"]
             and r["role"] in ("labeled", "unlabeled") and "all/unlabeled" not in r["source"]["path"]]  # fmt: skip
    lines = {line.split()[0] for text in texts for line in text.splitlines()}
    return sorted({i.rsplit("/", 1)[-1].split(".")[0].removesuffix("_leftImg8bit") for i in lines})


@pytest.mark.parametrize("data", ["voc", "cityscapes", "ade20k"])
def test_fetched_lists_give_the_published_partition(tmp_path, data):
    """Every partition of which the lists are at hand: numbers, identity and name, with the train pool as split."""
    folder = collection()
    partitions = official_partitions(data)
    fetch_lists(partitions, tmp_path, source=folder, say=lambda line: None)
    dataset = ListedDataset(pool(data, folder))
    dataset.name, dataset.root = data, tmp_path
    for p in partitions:
        found = make_partition(dataset, name=p.name, labeled=p.name, unlabeled=p.name)
        assert (len(found.labeled), len(found.unlabeled)) == (p.n_labeled, p.n_unlabeled)
        assert (found.sha256, found.official) == (p.sha256, p.name)
        assert id_set_sha256(found.unlabeled) == p.unlabeled_sha256


# Two made-up families of partitions of twenty images.

IDS = [f"i{k:02d}" for k in range(20)]
SETS = {"toy/a_1_4": IDS[:5], "toy/a_1_2": IDS[:10], "toy/b_1_4": IDS[3:8]}


def partition_of(name: str, labeled: list[str]) -> OfficialPartition:
    rest = [i for i in IDS if i not in labeled]
    file = ListFile("someone/Repo", "0" * 40, f"{name}.txt", "0" * 64, "<id>")
    return OfficialPartition(
        name=name, data="toy", family=f"toy-{name[4]}", n_labeled=len(labeled), n_unlabeled=len(rest),
        sha256=id_set_sha256(labeled), unlabeled_sha256=id_set_sha256(rest),
        sources=(file,), unlabeled_sources=(file,),
    )  # fmt: skip


@pytest.fixture
def toy(tmp_path, monkeypatch):
    facts = tuple(partition_of(name, ids) for name, ids in SETS.items())
    monkeypatch.setattr(official, "_facts", lambda: facts)
    dataset = ListedDataset(IDS)
    dataset.name, dataset.root = "toy", tmp_path
    return dataset


def store(root, name, labeled=None, unlabeled=None):
    for kind, ids in (("labeled", labeled), ("unlabeled", unlabeled)):
        if ids is not None:
            path = list_path(root, name, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"JPEGImages/{i}.jpg SegmentationClass/{i}.png\n" for i in ids))


def test_names_resolve_to_the_fetched_lists(toy):
    store(toy.root, "toy/a_1_4", IDS[:5], IDS[5:])
    found = make_partition(toy, name="toy/a_1_4", labeled="toy/a_1_4", unlabeled="toy/a_1_4")
    assert found.labeled == tuple(IDS[:5])
    assert found.unlabeled == tuple(IDS[5:])
    assert found.official == "toy/a_1_4"


def test_lists_are_found_from_a_folder_inside_the_root(tmp_path):
    store(tmp_path, "voc/classic_92", ["x"])
    inside = tmp_path / "VOCdevkit" / "VOC2012"
    inside.mkdir(parents=True)
    expected = list_path(tmp_path, "voc/classic_92", "labeled")
    assert find_official_list("voc/classic_92", "labeled", inside) == expected
    assert find_official_list("voc/classic_92", "unlabeled", inside) is None
    assert find_official_list("voc/classic_92", "labeled", None) is None


def test_missing_list_says_which_command_brings_it(toy):
    with pytest.raises(InputError) as error:
        make_partition(toy, labeled="toy/b_1_4")
    assert f"semiseg data fetch toy partition=toy/b_1_4 data.root={toy.root}" in str(error.value)
    assert "\n" not in str(error.value)


def test_rest_of_the_split_stands_for_an_unlabeled_list_only_when_it_is_the_same_set(toy):
    store(toy.root, "toy/a_1_4", IDS[:5])
    assert make_partition(toy, labeled="toy/a_1_4", unlabeled="toy/a_1_4").unlabeled == tuple(IDS[5:])
    toy.splits["train"] = [*IDS, "one_more"]
    with pytest.raises(InputError, match=r"15 published images, but the rest of the train split of toy has 16"):
        make_partition(toy, labeled="toy/a_1_4", unlabeled="toy/a_1_4")
    toy.splits["train"] = [*IDS[:-1], "another"]
    with pytest.raises(InputError, match=r"has 15 other; .*semiseg data fetch toy"):
        make_partition(toy, labeled="toy/a_1_4", unlabeled="toy/a_1_4")
    assert make_partition(toy, labeled="toy/a_1_4").official == "toy/a_1_4"


def test_official_name_with_another_list_is_refused(toy):
    store(toy.root, "toy/a_1_4", SETS["toy/b_1_4"], IDS[5:])
    with pytest.raises(
        InputError, match=r"labeled.txt is not the labeled list of toy/a_1_4: .* toy/b_1_4 \(family toy-b"
    ):
        make_partition(toy, labeled="toy/a_1_4", unlabeled="toy/a_1_4")
    store(toy.root, "toy/a_1_4", [*IDS[:4], IDS[9]], IDS[5:])
    with pytest.raises(InputError, match=r"no published labeled list of toy.*semiseg data fetch toy"):
        make_partition(toy, labeled="toy/a_1_4")


def test_protocol_of_one_family_with_the_list_of_another_is_refused(toy, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("\n".join(SETS["toy/b_1_4"]))
    with pytest.raises(InputError, match=r"protocol=toy/a_1_4 \(family toy-a\).*toy/b_1_4.*choose protocol=toy/b_1_4"):
        make_partition(toy, name="toy/a_1_4", labeled=mine)
    assert make_partition(toy, name="toy/mine", labeled=mine).official == "toy/b_1_4"
    mine.write_text("\n".join(IDS[:3]))
    assert make_partition(toy, name="toy/a_1_4", labeled=mine).official is None


@pytest.mark.parametrize("other", ["toy/a_1_2", "toy/b_1_4"])
def test_lists_of_two_partitions_are_refused(toy, other):
    store(toy.root, "toy/a_1_4", IDS[:5])
    store(toy.root, other, None, [i for i in IDS if i not in SETS[other]])
    with pytest.raises(InputError, match=rf"list of toy/a_1_4 .*unlabeled that of {other} .*protocol=toy/a_1_4"):
        make_partition(toy, labeled="toy/a_1_4", unlabeled=other)


def test_overlap_and_images_that_are_not_there_are_named(toy, tmp_path):
    store(toy.root, "toy/a_1_4", IDS[:5])
    unlabeled = tmp_path / "u.txt"
    unlabeled.write_text("\n".join(IDS[4:9]))
    with pytest.raises(InputError, match=r"'i04' is on the labeled list .*labeled.txt and on the unlabeled"):
        make_partition(toy, labeled="toy/a_1_4", unlabeled=unlabeled)
    toy.splits["train"] = IDS[2:]  # as after a half-extracted archive
    with pytest.raises(InputError, match=r"^2 of the 5 images of .*labeled.txt are missing: is the data set complete"):
        make_partition(toy, labeled="toy/a_1_4")
    with pytest.raises(InputError, match=r"labeled.txt, line 1: 'JPEGImages/i00.jpg .*' is not in the train split"):
        make_partition(toy, labeled="toy/a_1_4")


def test_unknown_name_suggests_the_nearest(toy):
    with pytest.raises(InputError, match=r"neither a list file nor a published partition: did you mean 'toy/a_1_4'"):
        make_partition(toy, labeled="toy/a_1_5")
