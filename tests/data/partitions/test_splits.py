from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from semiseg.data.datasets.camvid import CamVid
from semiseg.data.datasets.shapes import Shapes
from semiseg.data.partitions.choosing import how_many, spread
from semiseg.data.partitions.list_files import id_set_sha256, read_list
from semiseg.data.partitions.official import LISTS, official_partitions
from semiseg.data.partitions.splits import find_partition, make_partition, spread_over_classes, write_lists
from semiseg.errors import InputError
from support.dataset_files import ListedDataset, write_camvid

IDS = sorted(f"g{k % 3}_{k:03d}" for k in range(40))


@pytest.fixture
def dataset():
    return ListedDataset(IDS, val=["v_1"])


def write(path, *lines):
    path.write_text("\n".join(lines))
    return path


# identity


def test_hash_is_of_the_sorted_unique_base_names():
    expected = hashlib.sha256(b"a\nb.1\nc").hexdigest()
    assert id_set_sha256(["b.1", "a", "c", "a"]) == expected
    assert id_set_sha256(["JPEGImages/c.jpg", "/x/a.PNG", "city/b.1_leftImg8bit.png"]) == expected


def test_hash_tells_apart_images_of_one_name_in_two_folders():
    among = ["p1/001", "p2/001"]
    assert id_set_sha256(["p1/001"], among=among) != id_set_sha256(["p2/001"], among=among)


# choosing


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 5, 13, 39, 40])
def test_spread_gives_each_group_its_share_at_even_distance(count, seed):
    def group(image_id):
        return image_id.partition("_")[0]

    chosen = spread(IDS, count, group=group, seed=seed)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    for name, size in Counter(map(group, IDS)).items():
        members = [i for i in IDS if group(i) == name]
        places = [members.index(i) for i in chosen if group(i) == name]
        share = count * size / len(IDS)
        assert int(share) <= len(places) <= int(share) + 1
        gaps = np.diff(places)
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_spread_by_hand():
    def all_one(_):
        return ""

    assert spread("abcdefgh", 2, group=all_one) == ["c", "g"]
    assert spread("hgfedcba", 4, group=all_one) == ["b", "d", "f", "h"]
    assert spread("aaab", 3, group=all_one) == spread("aaab", 3, group=all_one)


def test_seeds_choose_differently(dataset):
    partitions = [make_partition(dataset, count=4, seed=seed) for seed in range(6)]
    assert len({p.sha256 for p in partitions}) >= 4
    assert make_partition(dataset, count=4, seed=3) == partitions[3]


@pytest.mark.parametrize(
    ("available", "fraction", "expected"),
    [
        (367, 1 / 32, 11),
        (367, 1 / 16, 23),
        (367, 1 / 8, 46),
        (367, 1 / 4, 92),
        (367, 1 / 2, 184),
        (5, 0.01, 1),
        (7, 1.0, 7),
    ],
)
def test_fraction_is_rounded_half_up(available, fraction, expected):
    assert how_many(available, None, fraction) == expected


def test_count_and_fraction_choose_among_images_with_masks():
    dataset = ListedDataset(IDS, without_mask=IDS[10:])
    partition = make_partition(dataset, fraction=0.5)
    assert len(partition.labeled) == 5
    assert set(partition.labeled) <= set(IDS[:10])
    assert sorted(partition.labeled + partition.unlabeled) == IDS
    everything = make_partition(dataset, fraction=1.0)
    assert everything.labeled == tuple(IDS[:10])
    assert everything.unlabeled == tuple(IDS[10:])


def test_no_mask_is_opened(dataset):
    make_partition(dataset, count=7)
    find_partition(dataset, fraction=0.5)
    assert dataset.opened_masks == set()


def test_spread_over_classes_covers_rare_classes_and_keeps_group_shares():
    dataset = ListedDataset(IDS)
    rare = {IDS[5], IDS[17], IDS[30], IDS[31]}
    for k, image_id in enumerate(IDS):
        mask = np.zeros((4, 6), np.uint8)
        mask[0, 0] = 255
        mask[0, 1] = 2 if image_id in rare else 0
        mask[1, 1] = k % 2
        dataset.masks[image_id] = mask
    partition = spread_over_classes(dataset, count=8)
    assert dataset.opened_masks == set(IDS)
    assert rare <= set(partition.labeled)
    assert sorted(Counter(map(dataset.group, partition.labeled)).values()) == [2, 3, 3]
    assert sorted(partition.labeled + partition.unlabeled) == IDS
    assert partition == spread_over_classes(dataset, count=8)


def test_spread_over_classes_is_no_worse_covered_than_every_nth():
    dataset = Shapes(size=(32, 32), n_train=64)

    def rarest(ids):
        shown = [np.bincount(np.unique(dataset.load_mask(i)), minlength=7) for i in ids]
        return np.sum(shown, 0).min()

    even = spread_over_classes(dataset, count=8, seed=1)
    assert rarest(even.labeled) > rarest(make_partition(dataset, count=8).labeled)


# list files


@pytest.mark.parametrize(
    "line",
    [
        "g1_001",
        "JPEGImages/g1_001.jpg SegmentationClass/g1_001.png",
        "/images/g1_001.png\t/x/g1_001.png",
        "a/b/g1_001_leftImg8bit.png",
    ],
)
def test_line_formats(tmp_path, dataset, line):
    labeled = write(tmp_path / "l.txt", "", line, "  ")
    partition = make_partition(dataset, labeled=labeled)
    assert partition.labeled == ("g1_001",)
    assert partition.unlabeled == tuple(i for i in IDS if i != "g1_001")
    assert partition.sha256 == id_set_sha256(["g1_001"])


def test_ids_in_folders_are_found_by_their_path(tmp_path):
    ids = ["p1/001", "p2/001", "p2/my scan"]
    lines = ["images/p2/001.png masks/p2/001.png", "p2/my scan", "p1/001.png"]
    found, problems = read_list(write(tmp_path / "l.txt", *lines), ids, "x")
    assert (found, problems) == (["p2/001", "p2/my scan", "p1/001"], [])
    found, problems = read_list(write(tmp_path / "l.txt", "001"), ids, "x")
    assert found == []
    assert "line 1: '001' is not in x" in problems[0]


def test_order_of_a_list_does_not_matter(tmp_path, dataset):
    one = make_partition(dataset, labeled=write(tmp_path / "1.txt", IDS[3], IDS[1]))
    other = make_partition(dataset, labeled=write(tmp_path / "2.txt", IDS[1], IDS[3]))
    assert one == other


def test_unlabeled_list_restricts_the_rest(tmp_path, dataset):
    unlabeled = write(tmp_path / "u.txt", *IDS[10:15])
    partition = make_partition(dataset, count=3, unlabeled=unlabeled)
    assert partition.unlabeled == tuple(sorted(IDS[10:15]))
    assert set(partition.labeled).isdisjoint(IDS[10:15])


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "expected"),
    [
        ([IDS[0], IDS[1], IDS[0]], None, "l.txt, line 3: duplicate id 'g0_000', also on line 1"),
        (
            [IDS[0]],
            [IDS[2], IDS[0]],
            "'g0_000' is on the labeled list .*l.txt and on the unlabeled list .*u.txt",
        ),
        (["g1_01"], None, "line 1: 'g1_01' is not in the train split of listed; did you mean 'g1_0"),
        ([IDS[7]], None, "g0_021: on the labeled list .*l.txt but has no mask"),
        ([""], None, "l.txt: zero labeled images"),
        ([IDS[0]], ["nonsense"], "u.txt, line 1: 'nonsense' is not in"),
    ],
)
def test_wrong_lists(tmp_path, labeled, unlabeled, expected):
    dataset = ListedDataset(IDS, without_mask=[IDS[7]])
    with pytest.raises(InputError, match=expected) as error:
        make_partition(
            dataset,
            labeled=write(tmp_path / "l.txt", *labeled),
            unlabeled=write(tmp_path / "u.txt", *unlabeled) if unlabeled else None,
        )
    assert "\n" not in str(error.value)


def test_validation_ids_are_not_in_the_train_split(tmp_path, dataset):
    with pytest.raises(InputError, match="'v_1' is not in the train split"):
        make_partition(dataset, labeled=write(tmp_path / "l.txt", "v_1"))


def test_find_partition_collects_all_problems(tmp_path, dataset):
    unknown = [f"no{k}" for k in range(4)]
    labeled = write(tmp_path / "l.txt", IDS[0], *unknown, IDS[0], IDS[0], IDS[0])
    partition, problems = find_partition(dataset, labeled=labeled)
    assert partition.labeled == (IDS[0],)
    assert len(problems) == 7
    with pytest.raises(InputError, match="and 2 more, `semiseg data check` lists all"):
        make_partition(dataset, labeled=labeled)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "set exactly one of protocol.labeled"),
        ({"labeled": "a.txt", "count": 3, "fraction": 1.0}, "set exactly one of protocol.labeled"),
        ({"count": 3, "fraction": 0.5}, "set exactly one of protocol.labeled"),
        ({"fraction": 0.0}, "protocol.fraction=0.0"),
        ({"fraction": 1.01}, "protocol.fraction=1.01"),
        ({"count": 0}, "protocol.count=0: expected 1 to 40"),
        ({"count": 41}, "protocol.count=41: expected 1 to 40"),
        ({"labeled": "missing.txt"}, "protocol.labeled=missing.txt: neither a list file nor a published partition"),
        ({"labeled": "camvid/1_9"}, "did you mean 'camvid/1_"),
        ({"count": 1, "unlabeled": "missing.txt"}, "protocol.unlabeled=missing.txt"),
    ],
)
def test_wrong_arguments(dataset, arguments, expected):
    with pytest.raises(InputError, match=expected):
        make_partition(dataset, **arguments)


def test_all_gives_way_to_a_count_or_a_list(tmp_path, dataset):
    assert make_partition(dataset, count=3, fraction=1.0) == make_partition(dataset, count=3)
    labeled = write(tmp_path / "l.txt", IDS[0], IDS[3])
    assert make_partition(dataset, labeled=labeled, fraction=1.0) == make_partition(dataset, labeled=labeled)


def test_no_image_has_a_mask():
    with pytest.raises(InputError, match="zero labeled images"):
        make_partition(ListedDataset(IDS, without_mask=IDS), fraction=0.5)


def test_list_that_is_not_text(tmp_path, dataset):
    path = tmp_path / "l.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a text file"):
        make_partition(dataset, labeled=path)


# written lists


def test_written_lists_can_be_used_again(tmp_path, dataset):
    partition = make_partition(dataset, count=5)
    paths = write_lists(tmp_path / "new" / "folder", partition, val=["v_1"])
    assert [p.name for p in paths] == ["labeled.txt", "unlabeled.txt", "val.txt"]
    assert make_partition(dataset, labeled=paths[0], unlabeled=paths[1]) == partition
    assert paths[2].read_text() == "v_1\n"


def test_written_lists_are_not_overwritten(tmp_path, dataset):
    (tmp_path / "unlabeled.txt").write_text("precious")
    with pytest.raises(InputError, match=r"unlabeled.txt exists and is not overwritten"):
        write_lists(tmp_path, make_partition(dataset, count=5))
    assert (tmp_path / "unlabeled.txt").read_text() == "precious"
    assert not (tmp_path / "labeled.txt").exists()


def test_lists_cannot_be_written_below_a_file(tmp_path, dataset):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        write_lists(tmp_path / "file" / "lists", make_partition(dataset, count=5))


# packaged lists


def test_packaged_lists_are_what_the_facts_say():
    packaged = {p.name: p for p in official_partitions() if not p.sources}
    files = {p.relative_to(LISTS).with_suffix("").as_posix(): p for p in LISTS.rglob("*.txt")}
    assert files.keys() == packaged.keys()
    for name, file in files.items():
        ids = file.read_text().split()
        assert len(set(ids)) == len(ids) == packaged[name].n_labeled
        assert id_set_sha256(ids) == packaged[name].sha256


def test_camvid_lists_are_spread_over_the_drives():
    # frames of train by drive, as published
    train = {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    counts = {p.name: p.n_labeled for p in official_partitions("camvid")}
    assert counts == {
        "camvid/1_32": 11,
        "camvid/1_16": 23,
        "camvid/1_8": 46,
        "camvid/1_4": 92,
        "camvid/1_2": 184,
    }
    for name, count in counts.items():
        drives = Counter(line.partition("_")[0] for line in (LISTS / f"{name}.txt").read_text().split())
        for drive, size in train.items():
            assert abs(drives[drive] - count * size / 367) < 1


def test_official_lists_are_recognized_however_they_are_given(tmp_path):
    dataset = ListedDataset([*(LISTS / "camvid/1_32.txt").read_text().split(), "other"])
    dataset.name = "camvid"
    by_name = make_partition(dataset, labeled="camvid/1_32")
    by_file = make_partition(dataset, labeled=write(tmp_path / "mine.txt", *reversed(by_name.labeled)))
    assert by_name.official == by_file.official == "camvid/1_32"
    assert by_name.unlabeled == ("other",)
    assert make_partition(dataset, count=3).official is None
    dataset.name = "folder"
    assert make_partition(dataset, labeled="camvid/1_32").official is None


def test_masks_of_unlabeled_images_may_be_garbage(tmp_path):
    root = write_camvid(tmp_path)
    for path in (root / "trainannot").iterdir():
        path.write_text("garbage")
    partition = make_partition(CamVid(root), fraction=0.5)
    assert (len(partition.labeled), len(partition.unlabeled)) == (3, 3)


# the name of a list


def test_own_lists_have_a_name_of_their_own(dataset, tmp_path):
    mine = write(tmp_path / "mine.txt", *IDS[:5])
    first = make_partition(dataset, labeled=mine)
    assert first.own_lists and first.list_name.startswith("custom_") and len(first.list_name) == 15
    assert make_partition(dataset, labeled=write(tmp_path / "again.txt", *reversed(IDS[:5]))) == first
    others = {first.list_name}
    others.add(make_partition(dataset, labeled=write(tmp_path / "other.txt", *IDS[1:6])).list_name)
    others.add(make_partition(dataset, labeled=mine, unlabeled=write(tmp_path / "few.txt", *IDS[9:12])).list_name)
    assert len(others) == 3
    assert not make_partition(dataset, count=5).own_lists
    rest = write(tmp_path / "rest.txt", *IDS[5:])
    assert make_partition(dataset, labeled=mine, unlabeled=rest).list_name == first.list_name


def test_many_unknown_ids_are_one_line(dataset, tmp_path):
    mine = write(tmp_path / "mine.txt", IDS[0], *(f"x{k}" for k in range(7000)))
    partition, problems = find_partition(dataset, labeled=mine)
    assert partition.labeled == (IDS[0],)
    assert problems == [
        f"{mine}: 7000 of its 7001 images are not in the train split of listed: line 2 'x0', line 3 'x1', line 4 'x2' "
        "and 6997 more"
    ]
