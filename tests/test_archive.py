"""Uploads: real zips, and hostile ones made by hand."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.apps.ui.archive import (
    MAX_NAME,
    Member,
    RefusedEntry,
    UploadLimits,
    count_entries,
    display_name,
    read_files,
)
from emoreason.media.images import SUFFIXES

MEGA = 2**20


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def upload(folder: Path, data: bytes, name: str = "upload.zip") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def names(found: list) -> list[str]:
    return [entry.name for entry in found if isinstance(entry, Member)]


def only_refusal(found: list) -> str:
    (refused,) = [entry for entry in found if isinstance(entry, RefusedEntry)]
    return refused.why


def bomb(folder: Path, size: int, declared: int | None = None) -> Path:
    """A member of zeros whose stated size is changed afterwards."""
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("small.png", b"good")
        with archive.open("big.png", "w", force_zip64=False) as member:
            for _ in range(size // MEGA):
                member.write(bytes(MEGA))
    if declared is not None:
        data = bytearray(path.read_bytes())
        at = data.rfind(b"PK\x01\x02")  # the second entry of the index
        data[at + 24 : at + 28] = struct.pack("<I", declared)
        path.write_bytes(data)
    return path


def test_pictures_of_files_and_zips_come_in_order(tmp_path):
    one = upload(tmp_path, b"1", "one.jpg")
    two = upload(tmp_path, packed({"a.png": b"a", "deep/b.JPG": b"b", "notes.txt": b"x", "empty/": b""}))
    found = list(read_files([one, two]))
    assert found == [Member("one.jpg", b"1"), Member("a.png", b"a"), Member("deep/b.JPG", b"b")]
    assert count_entries([one, two]) == 3


def test_what_nobody_meant_is_left_out(tmp_path):
    path = upload(tmp_path, packed({
        "__MACOSX/._a.png": b"x", ".hidden.png": b"x", ".git/b.png": b"x", "Thumbs.db": b"x", "a.png": b"good",
    }))  # fmt: skip
    assert list(read_files([path])) == [Member("a.png", b"good")]


@pytest.mark.parametrize(
    ("name", "expected_name"),
    [
        ("../../x.png", "x.png"),
        ("/etc/x.png", "x.png"),
        ("C:\\windows\\x.png", "x.png"),
        ("..\\..\\x.png", "x.png"),
        ("a/./b//c.png", "a/b/c.png"),
        ("<b>bold</b>.png", "<b>bold</b>.png"),
        ("line\nbreak\x00\x1b[31m.png", "line�break��[31m.png"),
        ("\u202egnp.exe.png", "�gnp.exe.png"),
        ("", "?"),
        ("..", ".."),
    ],
)
def test_names_do_no_harm(name, expected_name):
    assert display_name(name) == expected_name


def test_endless_names_keep_their_end():
    assert len(display_name("x" * 5000 + ".png")) == MAX_NAME
    assert display_name("x" * 5000 + ".png").endswith("x.png")


def test_hostile_names_in_a_zip_touch_no_file(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    path = upload(inside, packed({"../../x.png": b"1", "/tmp/x.png": b"2", "<b>.png": b"3", "y" * 3000 + ".png": b"4"}))
    found = list(read_files([path]))
    assert names(found)[:3] == ["x.png", "x.png (2)", "<b>.png"]
    assert [entry.data for entry in found] == [b"1", b"2", b"3", b"4"]
    assert sorted(tmp_path.rglob("*")) == [inside, path]


def test_names_that_are_no_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"1")
    assert names(list(read_files([path]))) == ["caf�.png"]
    data = packed({"cafe.png": b"2"}).replace(b"cafe.png", b"caf\xe9.png")
    (name,) = names(list(read_files([upload(tmp_path, data)])))
    name.encode()


@pytest.mark.parametrize("declared", [100, None, 2**32 - 2])
def test_a_bomb_is_refused_whatever_it_says(tmp_path, declared):
    """200 MB of zeros in 200 kB: stopped at a hundred times that, the good picture before it is read."""
    path = bomb(tmp_path, 200 * MEGA, declared)
    tracemalloc.start()
    found = list(read_files([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0] == Member("small.png", b"good")
    why = only_refusal(found)
    assert "damaged" in why if declared == 100 else "zip bomb" in why  # a stated size of 100 ends the reading there
    assert peak < 32 * MEGA


def test_ten_gigabytes_of_zeros(tmp_path):
    """Ten gigabytes that the index states as 1,000 bytes, built from one packed block: no time to pack them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(16 * MEGA)) + packer.flush(zlib.Z_FULL_FLUSH)  # can be repeated
    data = block * 640 + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    for declared in (1_000, 2**32 - 2):
        path = upload(tmp_path, by_hand("zeros.png", data, declared))
        why = only_refusal(list(read_files([path])))
        assert ("damaged" if declared == 1_000 else "larger than 64 MB") in why


def by_hand(name: str, data: bytes, size: int, method: int = zipfile.ZIP_DEFLATED, copies: int = 1) -> bytes:
    """A zip with any stated size; with `copies` entries of its index that share the same bytes."""
    raw = name.encode()
    sizes = struct.pack("<III", 0, len(data), size)
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, method, 0, 33) + sizes + struct.pack("<HH", len(raw), 0) + raw
    entry = (b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, method, 0, 33) + sizes
             + struct.pack("<HHHHHII", len(raw), 0, 0, 0, 0, 0, 0) + raw)  # fmt: skip
    index = entry * copies
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, copies, copies, len(index), len(local) + len(data), 0)
    return local + data + index + end


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = upload(tmp_path, by_hand("x.png", b"0" * 1000, 1000, zipfile.ZIP_STORED, copies=50))
    assert "share the same bytes" in only_refusal(list(read_files([path])))


def test_entries_that_reach_into_the_index_are_refused(tmp_path):
    data = bytearray(packed({"x.png": b"0" * 1000}, zipfile.ZIP_STORED))
    at = data.rfind(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 10**6, 10**6)
    assert "share the same bytes" in only_refusal(list(read_files([upload(tmp_path, bytes(data))])))


def test_an_endless_index_is_refused_before_it_is_read(tmp_path):
    path = upload(tmp_path, by_hand("x" * 60_000 + ".png", b"0", 1, zipfile.ZIP_STORED, copies=100))
    assert "too many files" in only_refusal(list(read_files([path])))
    assert count_entries([path]) == 1


def test_limits(tmp_path):
    path = upload(tmp_path, packed({f"{i}.png": os.urandom(1000) for i in range(10)}))
    many = list(read_files([path], UploadLimits(entries=4)))
    assert len(names(many)) == 4 and "first 4 pictures" in only_refusal(many) and count_entries([path]) == 10
    large = list(read_files([path], UploadLimits(picture_bytes=999)))
    assert not names(large) and len(large) == 10 and all("larger" in entry.why for entry in large)
    total = list(read_files([path, path], UploadLimits(unpacked_bytes=12_000)))
    assert len(names(total)) == 12 and "unpacks to more" in only_refusal(total)
    heavy = list(read_files([path, path], UploadLimits(upload_bytes=path.stat().st_size + 10)))
    assert len(names(heavy)) == 10 and "in total" in only_refusal(heavy)
    single = upload(tmp_path, bytes(1001), "single.png")
    assert "larger" in only_refusal(list(read_files([single], UploadLimits(picture_bytes=1000))))


def test_what_is_not_opened_is_told(tmp_path):
    inner = packed({"a.png": b"x"})
    nested = upload(tmp_path, packed({"inner.zip": inner, "ok.png": b"ok"}))
    found = list(read_files([nested]))
    assert names(found) == ["ok.png"] and "inside a zip" in only_refusal(found)
    locked = bytearray(packed({"a.png": b"secret"}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(magic) + offset] |= 1
    assert "password" in only_refusal(list(read_files([upload(tmp_path, bytes(locked), "locked.zip")])))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        other = upload(tmp_path, packed({"a.png": bytes(10 * MEGA)}, method), "other.zip")
        assert "ordinary zip" in only_refusal(list(read_files([other])))
    for data in (b"", b"no zip", inner[:-10], inner[:20]):
        assert "damaged" in only_refusal(list(read_files([upload(tmp_path, data, "broken.zip")])))
    assert "no picture" in only_refusal(list(read_files([upload(tmp_path, packed({"a.txt": b"x"}), "empty.zip")])))
    nameless = upload(tmp_path, by_hand("", b"0", 1, zipfile.ZIP_STORED))
    assert "no picture" in only_refusal(list(read_files([nameless])))
    assert "cannot be opened" in only_refusal(list(read_files([tmp_path / "gone.png"])))


def test_a_damaged_member_does_not_end_the_zip(tmp_path):
    data = packed({"a.png": b"A" * 100, "b.png": b"B" * 100}, zipfile.ZIP_STORED).replace(b"A" * 50, b"C" * 50)
    found = list(read_files([upload(tmp_path, data)]))
    assert names(found) == ["b.png"] and "damaged" in only_refusal(found)


names_of_pictures = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True).flatmap(
    lambda stem: st.sampled_from(sorted(SUFFIXES)).map(stem.__add__)
)


@settings(max_examples=50, deadline=None)
@given(
    members=st.dictionaries(names_of_pictures, st.binary(max_size=300), max_size=8),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    entries=st.integers(1, 10),
    picture_bytes=st.integers(1, 300),
    unpacked_bytes=st.integers(1, 1500),
)
def test_what_comes_out_went_in_and_keeps_to_the_limits(
    tmp_path_factory, members, method, entries, picture_bytes, unpacked_bytes
):
    path = upload(tmp_path_factory.mktemp("zip"), packed(members, method))
    limits = UploadLimits(entries=entries, picture_bytes=picture_bytes, unpacked_bytes=unpacked_bytes)
    found = list(read_files([path], limits))
    read = [entry for entry in found if isinstance(entry, Member)]
    assert all(members[entry.name] == entry.data and len(entry.data) <= picture_bytes for entry in read)
    assert sum(len(entry.data) for entry in read) <= unpacked_bytes
    assert [entry.name for entry in read] == [name for name in members if name in set(names(read))]
    assert len(found) <= entries + 1
    if not any(isinstance(entry, RefusedEntry) for entry in found):
        assert len(read) == len(members)


@settings(max_examples=300, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_broken_bytes_are_sentences(tmp_path_factory, places):
    """Whatever is changed in a zip: members or refusals come out, and nothing is raised."""
    data = bytearray(packed({"a.png": b"A" * 50, "b.png": b"B" * 50}))
    for at, value in places:
        data[at % len(data)] = value
    for entry in read_files([upload(tmp_path_factory.mktemp("zip"), bytes(data))]):
        assert isinstance(entry, Member) or entry.why.endswith(".")
