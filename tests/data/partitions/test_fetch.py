"""Fetching list files: from a server on this machine, and from a folder."""

from __future__ import annotations

import gzip
import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from semiseg.data.partitions.fetch import fetch_lists
from semiseg.data.partitions.list_files import id_set_sha256
from semiseg.data.partitions.official import ListFile, OfficialPartition, list_path
from semiseg.errors import InputError

LABELED, UNLABELED = b"JPEGImages/a.jpg x/a.png\nJPEGImages/b.jpg x/b.png\n", b"c\nd\ne"


def file(content: bytes, path: str, repository: str = "someone/Repo") -> ListFile:
    return ListFile(repository, "c0ffee", path, hashlib.sha256(content).hexdigest(), "<id>")


PARTITION = OfficialPartition(
    name="toy/a", data="toy", family="toy", n_labeled=2, n_unlabeled=3,
    sha256=id_set_sha256("ab"), unlabeled_sha256=id_set_sha256("cde"),
    sources=(file(LABELED, "gone/l.txt", "nobody/Gone"), file(LABELED, "lists/l.txt")),
    unlabeled_sources=(file(UNLABELED, "lists/u.txt"),),
)  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A web server; returns its address and the folder that it shows as someone/Repo at c0ffee."""
    handler = partial(Quiet, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        folder = tmp_path / "web" / "someone" / "Repo" / "c0ffee" / "lists"
        folder.mkdir(parents=True)
        (folder / "l.txt").write_bytes(LABELED)
        (folder / "u.txt").write_bytes(UNLABELED)
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()


def stored(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_lists_come_from_the_first_repository_that_has_them(tmp_path, server):
    root, said = tmp_path / "data", []
    fetch_lists([PARTITION], root, url=server[0], say=said.append)
    expected = {"partitions/toy/a/labeled.txt": LABELED, "partitions/toy/a/unlabeled.txt": UNLABELED}
    assert stored(root) == expected
    assert said == ["toy/a: 2 labeled stored, 3 unlabeled stored"]
    fetch_lists([PARTITION], root, url="http://127.0.0.1:9", say=said.append)  # nothing left to bring: no network
    assert said[1] == "toy/a: 2 labeled already there, 3 unlabeled already there"


def test_content_that_is_not_the_published_one_is_not_stored(tmp_path, server):
    address, folder = server
    (folder / "l.txt").write_bytes(LABELED.replace(b"b.jpg", b"z.jpg"))
    with pytest.raises(
        InputError, match=r"no source has its labeled list: .*404.*content differs from the published file"
    ):
        fetch_lists([PARTITION], tmp_path / "data", url=address)
    assert not (tmp_path / "data").exists()


def test_without_a_network_one_line_says_what_to_do(tmp_path):
    with pytest.raises(InputError) as error:
        fetch_lists([PARTITION], tmp_path, url="http://127.0.0.1:9")
    text = str(error.value)
    assert "cannot be reached" in text
    assert "source=DIR with a checkout of github.com/nobody/Gone" in text
    assert "\n" not in text


def test_lists_that_differ_are_overwritten_only_when_it_is_said(tmp_path, server):
    mine = list_path(tmp_path / "data", "toy/a", "labeled")
    mine.parent.mkdir(parents=True)
    mine.write_text("precious\n")
    with pytest.raises(InputError, match=r"labeled.txt exists and lists other images than toy/a; .*overwrite=true"):
        fetch_lists([PARTITION], tmp_path / "data", url=server[0])
    assert mine.read_text() == "precious\n"
    fetch_lists([PARTITION], tmp_path / "data", url=server[0], overwrite=True)
    assert mine.read_bytes() == LABELED
    mine.write_text("b\r\na\r\n")  # the same images in another format
    fetch_lists([PARTITION], tmp_path / "data", url="http://127.0.0.1:9")
    assert mine.read_text() == "b\na\n"


@pytest.mark.parametrize("place", ["lists/{}.txt", "Repo/lists/{}.txt", "files/Repo/lists/{}.txt.gz", "any/{}_x.txt"])
def test_lists_come_from_a_folder(tmp_path, place):
    source = tmp_path / "source"
    for name, content in (("l", LABELED), ("u", UNLABELED)):
        path = source / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content.replace(b"\n", b"\r\n"))
    fetch_lists([PARTITION], tmp_path / "data", source=source)
    found = stored(tmp_path / "data")
    assert {name: set(text.split()) for name, text in found.items()} == {
        "partitions/toy/a/labeled.txt": set(LABELED.split()),
        "partitions/toy/a/unlabeled.txt": set(UNLABELED.split()),
    }


def test_folder_without_the_lists(tmp_path):
    (tmp_path / "l.txt").write_text("something else")
    with pytest.raises(InputError, match=r"no file below it lists the 2 labeled images of toy/a; expected a checkout"):
        fetch_lists([PARTITION], tmp_path / "data", source=tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        fetch_lists([PARTITION], tmp_path / "data", source=tmp_path / "none")


def test_unlabeled_images_without_a_list_are_the_rest(tmp_path):
    (tmp_path / "l.txt").write_bytes(LABELED)
    said = []
    fetch_lists([PARTITION], tmp_path / "1", source=tmp_path, say=said.append)
    unknown = replace(PARTITION, unlabeled_sha256=None, unlabeled_sources=())
    fetch_lists([unknown], tmp_path / "2", source=tmp_path, say=said.append)
    assert "not found there" in said[0]
    assert "are the rest of the train split" in said[1]
    for root in ("1", "2"):
        assert list(stored(tmp_path / root)) == ["partitions/toy/a/labeled.txt"]


def test_a_list_that_is_not_there_does_not_keep_the_others(tmp_path):
    source, said = tmp_path / "source", []
    source.mkdir()
    (source / "l.txt").write_bytes(LABELED)
    (source / "u.txt").write_bytes(UNLABELED)
    gone = [replace(PARTITION, name=f"toy/{name}", sha256=name * 64) for name in "xy"]
    expected = r"2 of 3 partitions failed; .*images of toy/x; .*\(the others: toy/y\)"
    with pytest.raises(InputError, match=expected) as error:
        fetch_lists([gone[0], PARTITION, gone[1]], tmp_path / "data", source=source, say=said.append)
    assert "\n" not in str(error.value)
    assert said == ["toy/x: failed", "toy/a: 2 labeled stored, 3 unlabeled stored", "toy/y: failed"]


DAMAGES = {"cut": lambda b: b[:-9], "bits": lambda b: b[:20] + b"\xff" * 30, "other": lambda b: b"no gzip"}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_archive_is_named_or_passed_over(tmp_path, damage):
    packed = tmp_path / "lists" / "l.txt.gz"
    packed.parent.mkdir()
    packed.write_bytes(damage(gzip.compress(LABELED * 50)))
    with pytest.raises(InputError, match=r"l.txt.gz: cannot be read"):
        fetch_lists([PARTITION], tmp_path / "data", source=tmp_path)
    packed.rename(tmp_path / "other.txt.gz")
    (tmp_path / "any.txt").write_bytes(LABELED)
    fetch_lists([PARTITION], tmp_path / "data", source=tmp_path)
    assert "partitions/toy/a/labeled.txt" in stored(tmp_path / "data")
