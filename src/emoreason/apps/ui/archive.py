"""Reads uploaded pictures and zips, one picture at a time.

Zips are untrusted: nothing is written to disk, and the sizes that a zip declares are not trusted.
"""

import io
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emoreason.apps.ui.words import words
from emoreason.media import images

MAX_NAME = 200  # characters of a displayed name
STEP = 2**20  # bytes read at a time
MAX_INDEX = 4 * 2**20  # bytes of a zip's index: about 50,000 names
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python unpacks bzip2 and lzma without an output limit
# What zipfile may raise for damaged data (RuntimeError also for unknown compression methods).
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, LookupError, RuntimeError)


@dataclass(frozen=True)
class UploadLimits:
    """Limits of one upload."""

    upload_bytes: int = 200 * 2**20  # all files together, as uploaded
    entries: int = 2_000
    picture_bytes: int = 64 * 2**20
    unpacked_bytes: int = 2**30  # of all members together
    ratio: int = 100  # unpacked to packed size, checked after STEP bytes; pictures hardly compress
    picture: images.Limits = images.Limits(max_pixels=50_000_000)


@dataclass(frozen=True)
class Member:
    """A file that may be a picture, not decoded yet."""

    name: str
    data: bytes


@dataclass(frozen=True)
class RefusedEntry:
    """A file, a member or a whole zip that is not read, with a sentence that says why."""

    name: str
    why: str


class _Stop(Exception):
    """Stops reading a zip; the message says why."""


def read_files(files: Sequence[Path], limits: UploadLimits = UploadLimits()) -> Iterator[Member | RefusedEntry]:
    """Yields pictures, also from zips, in the order of the upload. Repeated names get a number."""
    names: Counter[str] = Counter()
    for entry in _entries(files, limits):
        if names.total() == limits.entries:
            yield RefusedEntry(entry.name, _why("many", limit=f"{limits.entries:,}"))
            return
        names[entry.name] += 1
        if names[entry.name] > 1 and isinstance(entry, Member):
            entry = Member(f"{entry.name} ({names[entry.name]})", entry.data)
        yield entry


def count_entries(files: Sequence[Path], limits: UploadLimits = UploadLimits()) -> int:
    """How many entries `read_files` yields if all goes well, counted from the names alone."""
    n = 0
    for path in files:
        try:
            with _opened(path) as archive:
                n += max(1, len(_picture_members(archive)))
        except (_Stop, OSError):  # not a zip, or a zip that counts as one refused entry
            n += 1
    return min(n, limits.entries + 1)


def display_name(name: str) -> str:
    """A safe name for rows and tables: relative, on one line, printable, of limited length."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name)
    safe = "/".join(parts[-1:] if absolute or ".." in parts else parts)
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in safe) or "?"
    return safe if len(safe) <= MAX_NAME else f"{safe[: MAX_NAME - 21]}…{safe[-20:]}"


def is_zip(path: Path) -> bool:
    if path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _entries(files: Sequence[Path], limits: UploadLimits) -> Iterator[Member | RefusedEntry]:
    uploaded = 0
    unpacker = _Unpacker(limits)
    for path in files:
        name = display_name(path.name)
        try:
            size = path.stat().st_size
            uploaded += size
            if uploaded > limits.upload_bytes:
                yield RefusedEntry(name, _why("upload", limit=_megabytes(limits.upload_bytes)))
            elif is_zip(path):
                yield from unpacker.members(path)
            elif size > limits.picture_bytes:
                yield RefusedEntry(name, _why("large", limit=_megabytes(limits.picture_bytes)))
            else:
                yield Member(name, path.read_bytes())
        except _Stop as stop:
            yield RefusedEntry(name, str(stop))
        except OSError as error:
            yield RefusedEntry(name, _why("unreadable", error=error.strerror or error))


class _LimitedReader(io.BufferedReader):
    """Refuses the only large read of zipfile: the whole index at once, at whatever size the zip declares."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_INDEX:
            raise _Stop(_why("index"))
        return super().read(size)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a zip and checks that members do not share bytes; if they did, it would unpack to more than we count."""
    if not is_zip(path):
        raise _Stop
    with _LimitedReader(io.FileIO(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise _Stop(_why("broken")) from error
        end = 0
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise _Stop(_why("overlap"))
            end = info.header_offset + info.compress_size
        if end > archive.start_dir:
            raise _Stop(_why("overlap"))
        yield archive


def _picture_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Members to read or refuse: pictures and zips by name, without hidden files and those of macOS."""
    members = []
    for info in archive.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        hidden = any(part.startswith(".") and part != ".." or part == "__MACOSX" for part in path.parts)
        if not info.filename.endswith("/") and not hidden and path.suffix.lower() in images.SUFFIXES | {".zip"}:
            members.append(info)
    return members


@dataclass
class _Unpacker:
    """Reads the zips of one upload and counts the unpacked bytes of all of them."""

    limits: UploadLimits
    unpacked: int = 0

    def members(self, path: Path) -> Iterator[Member | RefusedEntry]:
        with _opened(path) as archive:
            members = _picture_members(archive)
            if not members:
                yield RefusedEntry(display_name(path.name), _why("empty"))
            for info in members:
                name = display_name(info.filename)
                if name.lower().endswith(".zip"):
                    yield RefusedEntry(name, _why("nested"))
                elif info.flag_bits & 0x1:
                    yield RefusedEntry(name, _why("locked"))
                elif info.compress_type not in METHODS:
                    yield RefusedEntry(name, _why("method"))
                else:
                    yield self._read(archive, info, name)

    def _read(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Member | RefusedEntry:
        """Reads one member and counts its bytes, also if it is refused, because unpacking takes time either way."""
        limits, data = self.limits, bytearray()
        try:
            with archive.open(info) as stream:
                while piece := stream.read(STEP):
                    data += piece
                    self.unpacked += len(piece)
                    if self.unpacked > limits.unpacked_bytes:
                        raise _Stop(_why("unpacked", limit=_megabytes(limits.unpacked_bytes)))
                    if len(data) >= STEP and len(data) > limits.ratio * info.compress_size:
                        raise _Stop(_why("bomb", name=name, ratio=limits.ratio))
                    if len(data) > limits.picture_bytes:
                        return RefusedEntry(name, _why("large", limit=_megabytes(limits.picture_bytes)))
        except BROKEN:
            return RefusedEntry(name, _why("broken_member"))
        return Member(name, bytes(data))


def _megabytes(n: int) -> str:
    return f"{n / 2**20:,.0f} MB"


def _why(key: str, **values: object) -> str:
    return str(words()["folder"]["refused"][key]).format(**values)
