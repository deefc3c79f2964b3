"""Open pictures safely: any source becomes an upright RGB picture or raises a clear `EmoreasonError`.

Pictures may come from strangers. So only listed formats are read (Pillow's EPS plugin, for example, starts
Ghostscript), sizes are checked in the header before any pixel is decoded, and downloads are limited in bytes, time and
redirects.
"""

from __future__ import annotations

import base64
import binascii
import glob
import hashlib
import http.client
import io
import ipaddress
import logging
import os
import re
import socket
import stat
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Picture

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # in other formats, extra frames are pages, thumbnails or depth maps
# Suffixes picked up from folders. HEIC is listed although it cannot be read: an error row is better than silently
# skipping photos.
# fmt: off
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".tga", ".ico",
})
# fmt: on
# Goes behind transparent pixels. White is the page that cut-outs are usually made for; detection does not depend on it:
# boxes and scores of cut-out faces were the same on black, greys and white.
BACKGROUND = (255, 255, 255)
EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NOT_PICTURES: tuple[tuple[Callable[[bytes], Any], str], ...] = (
    (re.compile(rb"....ftyp(hei[cx]|hevc|mif1|msf1)", re.S).match, "it is HEIC; save it as JPEG or PNG"),
    (re.compile(rb"....ftypavif", re.S).match, "this Pillow was built without AVIF; save it as JPEG or PNG"),
    (re.compile(rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", re.S).match, "it is a video; extract single frames from it"),
    (re.compile(rb"\s*(<\?xml|<svg)", re.I).match, "it is SVG or XML; save it as PNG"),
    (re.compile(rb"\s*<(!doctype|html)", re.I).match, "it is a web page; give the address of the picture itself"),
    (re.compile(rb"%PDF|%!PS").match, "it is a document; save the page as PNG"),
)


@dataclass(frozen=True)
class Limits:
    """Limits for opening one picture. A server that takes URLs from strangers sets `allow_private_hosts=False`."""

    max_bytes: int = 64 * 2**20  # of a download
    max_pixels: int = 100_000_000  # of one frame, read from the header
    timeout_s: float = 20.0  # for a whole download, redirects included
    max_redirects: int = 5
    max_frames: int = 10_000
    allow_private_hosts: bool = True


def open_picture(source: Any, limits: Limits = Limits()) -> Picture:
    """Open a path, http(s) URL, data URI, bytes, PIL image, numpy array or torch tensor as an upright RGB picture.

    An animation gives its first frame. A picture that was opened already is returned as it is.
    """
    if isinstance(source, Picture):
        return source
    name = describe(source)
    if isinstance(source, Image.Image):
        _check_pixels(*source.size, name, limits)
        with _clear_errors(name):
            return Picture(name, _upright_rgb(source))
    if _is_array(source):
        return Picture(name, _from_array(source, name, limits))
    with _opened(source, name, limits) as image, _clear_errors(name):
        return Picture(name, _upright_rgb(image))


def open_frames(source: Any, limits: Limits = Limits()) -> Iterator[Picture]:
    """Yield every frame of an animated GIF, WebP, PNG or AVIF with its time, or one picture without a frame number."""
    if isinstance(source, Image.Image) or _is_array(source):
        yield open_picture(source, limits)
        return
    name = describe(source)
    with _opened(source, name, limits) as image:
        if image.format not in ANIMATED or not getattr(image, "is_animated", False):
            with _clear_errors(name):
                still = _upright_rgb(image)
            yield Picture(name, still)
            return
        start_ms, number = 0.0, 0
        while True:
            with _clear_errors(f"{name}, frame {number}"):
                try:
                    image.seek(number)
                except EOFError:
                    return
                if number >= limits.max_frames:
                    raise EmoreasonError(f"{name} has more than {limits.max_frames} frames. Raise Limits.max_frames.")
                rgb = _upright_rgb(image)
                duration = float(image.info.get("duration") or 0)
            yield Picture(name, rgb, number, start_ms / 1000)
            start_ms, number = start_ms + duration, number + 1


def describe(source: Any) -> str:
    """The short name of a source in rows and messages. Bytes and data URIs are named by hash, not by content."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"bytes:sha256:{hashlib.sha256(source).hexdigest()[:16]}"
    if isinstance(source, str) and is_data_uri(source):
        media_type = source[5:].split(",", 1)[0].split(";", 1)[0][:40] or "text/plain"
        return f"data:{media_type}:sha256:{hashlib.sha256(source.encode('utf-8', 'replace')).hexdigest()[:16]}"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    if _is_array(source):
        return f"array {'x'.join(map(str, source.shape))}"
    return os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def is_url(source: object) -> bool:
    return isinstance(source, str) and re.match(r"[a-z][a-z0-9+.-]+://", source, re.I) is not None


def is_data_uri(source: object) -> bool:
    return isinstance(source, str) and source[:5].lower() == "data:"


# ---- finding ---------------------------------------------------------------------------------------------------------


def find_pictures(paths: str | Path | Iterable[str | Path]) -> Iterator[str]:
    """Expand files, folders (recursively), globs, URLs, data URIs and "-" (a list on stdin), one source at a time.

    Raises before the first source if an argument does not exist. Folders yield files with a picture suffix, except
    hidden ones, in natural order, files before subfolders; a file that is named explicitly is yielded whatever its
    suffix. Lines of stdin are passed on even if they do not exist: that costs one error row later instead of ending a
    long job.
    """
    arguments = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    names = [os.fsdecode(path) for path in arguments]
    for name in names:
        if not (name == "-" or is_url(name) or is_data_uri(name) or _exists(name)):
            if not glob.has_magic(name):
                raise EmoreasonError(f"{name or 'The empty path'} does not exist. Give a picture, folder, glob or URL.")
            if next(_matches(name), None) is None:
                raise EmoreasonError(
                    f"No picture matches {name}. Quote the pattern; `**` matches folders at any depth."
                )
    return (source for name in names for source in (_stdin() if name == "-" else _expand(name)))


def _expand(name: str) -> Iterator[str]:
    if is_url(name) or is_data_uri(name):
        yield name
    elif os.path.isdir(name):
        yield from _walk(name)
    elif not _exists(name) and glob.has_magic(name):
        yield from sorted(_matches(name), key=natural_sort_key)
    else:
        yield name


def _stdin() -> Iterator[str]:
    for line in sys.stdin.buffer:
        if name := os.fsdecode(line.rstrip(b"\r\n")):
            yield from _expand(name)


def _matches(pattern: str) -> Iterator[str]:
    """All files that match if the pattern spells out a suffix, otherwise only those with a picture suffix."""
    suffix = os.path.splitext(pattern)[1]
    any_suffix = suffix and not glob.has_magic(suffix)
    paths = glob.iglob(pattern, recursive=True)
    return (path for path in paths if (any_suffix or _is_picture_name(path)) and os.path.isfile(path))


def _walk(top: str) -> Iterator[str]:
    """Pictures in a folder tree, with one folder's names in memory at a time. Cycles of links are detected."""
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while stack:
        folder, parents = stack.pop()
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in parents:
                continue
            files, folders = _scan(folder)
        except OSError as error:
            if folder == top:
                raise EmoreasonError(f"The folder {folder} cannot be read: {error.strerror}.") from error
            log.warning("The folder %s cannot be read and is skipped: %s", folder, error.strerror)
            continue
        for name in files:
            yield os.path.join(folder, name)
        stack.extend((os.path.join(folder, name), parents | {identity}) for name in reversed(folders))


def _scan(folder: str) -> tuple[list[str], list[str]]:
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif _is_picture_name(entry.name):
                files.append(entry.name)
    return sorted(files, key=natural_sort_key), sorted(folders, key=natural_sort_key)


def natural_sort_key(name: str) -> tuple[str, str]:
    """Sort key that puts img2 before img10. A zero-padded string needs a third of the memory of split parts."""
    return re.sub(r"\d+", lambda digits: digits.group().lstrip("0").zfill(20), name.casefold()), name


def _is_picture_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _exists(name: str) -> bool:
    try:
        return os.path.exists(name)
    except ValueError:  # a null character in the name
        return False


# ---- reading ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: Any, name: str, limits: Limits) -> Iterator[Image.Image]:
    """Open an encoded picture: its format is known and its size checked, but no pixel is decoded yet."""
    stream: IO[bytes]
    if isinstance(source, (bytes, bytearray, memoryview)):
        stream = io.BytesIO(source)
    elif is_data_uri(source):
        stream = io.BytesIO(_decode_data_uri(source, name))
    elif is_url(source):
        stream = io.BytesIO(_download(source, limits))
    elif isinstance(source, (str, os.PathLike)):
        stream = _open_file(os.fsdecode(source))
    else:
        raise EmoreasonError(
            f"{type(source).__name__} cannot be opened as a picture. Give a path, URL, data URI, bytes, PIL image, "
            "numpy array or torch tensor."
        )
    with stream:
        head = stream.read(64)
        if not head:
            raise EmoreasonError(f"{name} is empty (0 bytes).")
        stream.seek(0)
        Image.init()
        try:
            with _clear_errors(name):
                image = Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
        except EmoreasonError as error:
            hint = next((text for matches, text in NOT_PICTURES if matches(head)), None)
            if hint or isinstance(error.__cause__, Image.UnidentifiedImageError):
                hint = hint or "use JPEG, PNG, WebP, GIF, TIFF or BMP"
                raise EmoreasonError(f"{name} is not a picture that can be read: {hint}.") from error
            raise
        with image:
            _check_pixels(*image.size, name, limits)
            yield image


def _open_file(path: str) -> IO[bytes]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe or a device might never end
            kind = "a folder: find_pictures gives its files" if os.path.isdir(path) else "not a regular file"
            raise EmoreasonError(f"{path} is {kind}.")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EmoreasonError(f"{path[:300]!r} cannot be opened: {reason}. Check the path.") from error


@contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """Turn any error into an `EmoreasonError`.

    On broken bytes, Pillow's plugins raise almost anything: OSError, SyntaxError, struct.error, IndexError, …
    """
    try:
        yield
    except EmoreasonError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise EmoreasonError(f"{name} would take too much memory: {error}. Make it smaller.") from error
    except Exception as error:
        raise EmoreasonError(f"{name} is damaged and cannot be decoded: {error or type(error).__name__}.") from error


def _check_pixels(width: int, height: int, name: str, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise EmoreasonError(f"{name} has no pixels ({width}x{height}).")
    if width * height > limits.max_pixels:
        raise EmoreasonError(
            f"{name} has {width}x{height} = {width * height / 1e6:.0f} million pixels, the limit is "
            f"{limits.max_pixels / 1e6:.0f} million. Make it smaller, or raise Limits.max_pixels."
        )


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()  # before reading the orientation: Pillow rotates TIFFs itself while loading and drops the tag
    try:
        transpose = UPRIGHT.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF block is no reason to lose the picture
        transpose = None
    rgb = _rgb(image)
    if transpose is not None:
        rgb = rgb.transpose(transpose)
    rgb.info = {}  # so that nobody applies the orientation again
    return rgb


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB. CMYK is converted without its profile: good enough for faces, not for print."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(_to_bytes(np.asarray(image).astype(np.uint16))).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image, dtype=np.float64))).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", image.size, BACKGROUND)
        page.alpha_composite(rgba)
        return page.convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Convert 32-bit grey to bytes.

    It has no agreed range: 0..1, 0..255 and 0..65535 are recognised, anything else is stretched to full range.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values, high = (values - low) / max(high - low, 1e-12), 1.0
    scale = 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257
    return np.round(values * scale).astype(np.uint8)


def _decode_data_uri(uri: str, name: str) -> bytes:
    head, comma, body = uri.partition(",")
    try:
        if not comma:
            raise ValueError("no comma after the media type")
        raw = urllib.parse.unquote_to_bytes(body)
        if not head.lower().endswith(";base64"):
            return raw
        raw = b"".join(raw.split())
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (ValueError, binascii.Error) as error:
        raise EmoreasonError(f"{name} is not a valid data URI ({error}). Expected data:image/png;base64,…") from error


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _is_tensor(source: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch; importing it here would take seconds
    return torch is not None and isinstance(source, torch.Tensor)


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) or _is_tensor(source)


def _from_array(source: Any, name: str, limits: Limits) -> Image.Image:
    """Convert HxW, HxWxC or CxHxW in RGB order to a picture. If both layouts fit, a tensor is read as CxHxW.

    Callers convert OpenCV's BGR themselves.
    """
    tensor = _is_tensor(source)
    if tensor:
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    array = np.asarray(source)
    channels = (1, 3, 4)
    if array.ndim == 3 and array.shape[0] in channels and (tensor or array.shape[2] not in channels):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in channels):
        raise EmoreasonError(f"{name}: expected HxW, HxWx3, HxWx4 or CxHxW. From a batch, give one picture: batch[0].")
    _check_pixels(array.shape[1], array.shape[0], name, limits)
    array = _to_bytes(array, name)
    return _upright_rgb(Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array)))


def _to_bytes(array: np.ndarray, name: str = "array") -> np.ndarray:
    """uint8 unchanged, uint16 scaled from its full range, other numbers if they lie in 0..1 (floats only) or 0..255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return np.round(array / 257).astype(np.uint8)
    if array.dtype.kind not in "fiu":
        raise EmoreasonError(f"{name} holds {array.dtype}, expected uint8, uint16 or float.")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255):  # true for NaN as well
        raise EmoreasonError(
            f"{name} runs from {low:.4g} to {high:.4g}, expected 0..1 or 0..255 without NaN. "
            "Undo any normalisation first."
        )
    return np.round(array * (255.0 if array.dtype.kind == "f" and high <= 1 else 1.0)).astype(np.uint8)


# ---- downloads -------------------------------------------------------------------------------------------------------


def _download(url: str, limits: Limits) -> bytes:
    """Download a URL. The timeout covers the whole download, so a server that drips bytes is cut off too."""
    guard = _ConnectionGuard(limits)
    deadline = time.monotonic() + limits.timeout_s
    timer = threading.Timer(limits.timeout_s, guard.close)
    timer.daemon = True
    timer.start()
    try:
        headers = {"User-Agent": "emoreason", "Accept": "image/*,*/*;q=0.5"}
        request = urllib.request.Request(_checked_url(url), headers=headers)
        with _opener(guard).open(request, timeout=limits.timeout_s) as response:
            content_length = response.headers.get("Content-Length", "")
            too_large = content_length.isdigit() and int(content_length) > limits.max_bytes
            body = b"" if too_large else response.read(limits.max_bytes + 1)
        if time.monotonic() >= deadline:  # a connection closed by the timer can look like a short, complete response
            raise TimeoutError
    except EmoreasonError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise EmoreasonError(f"{url}: the server answered {error.code} {error.reason}. Check the address.") from error
    except Exception as error:  # http.client and ssl raise errors that are neither OSError nor ValueError
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, EmoreasonError):
            raise reason from error
        if isinstance(reason, TimeoutError) or time.monotonic() >= deadline:
            raise EmoreasonError(f"{url} took longer than {limits.timeout_s:g} s. Download it first.") from error
        raise EmoreasonError(f"{url} cannot be fetched: {reason or type(reason).__name__}. Check it.") from error
    finally:
        timer.cancel()
    if too_large or len(body) > limits.max_bytes:
        raise EmoreasonError(f"{url} is larger than {limits.max_bytes / 2**20:.0f} MiB. Raise Limits.max_bytes.")
    return body


class _ConnectionGuard:
    """Checks every connection of one download: rejects private hosts if required, and closes it at the timeout."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sock: socket.socket | None = None
        self.expired = False

    def connected(self, sock: socket.socket) -> None:
        # Checks the peer's address, not the host name: a second look-up of the name could give another address. No
        # request has been sent yet.
        address = ipaddress.ip_address(sock.getpeername()[0].split("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if not self.limits.allow_private_hosts and not address.is_global:
            raise EmoreasonError(f"{address} is a private address; this service fetches only from public ones.")
        self.sock = sock
        if self.expired:
            self.close()

    def close(self) -> None:
        self.expired = True
        if self.sock is not None:
            with suppress(OSError):  # closed already
                self.sock.shutdown(socket.SHUT_RDWR)


def _opener(guard: _ConnectionGuard) -> urllib.request.OpenerDirector:
    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            guard.connected(self.sock)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            guard.connected(self.sock)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req)

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = guard.limits.max_redirects
        max_repeats = guard.limits.max_redirects

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            return super().redirect_request(req, fp, code, msg, headers, _checked_url(newurl))

    # Behind a proxy, the peer is always the proxy: the check for private addresses works only on direct connections.
    direct = [] if guard.limits.allow_private_hosts else [urllib.request.ProxyHandler({})]
    return urllib.request.build_opener(PlainHandler, SecureHandler, Redirects, *direct)


def _checked_url(url: str) -> str:
    """Accept only http and https (redirects are checked too) and quote characters outside ASCII as browsers do."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EmoreasonError(f"{url[:300]} is not an http or https address. Give a path or an http(s) URL.")
        host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    except ValueError as error:  # UnicodeError included
        raise EmoreasonError(f"{url[:300]} is not a valid URL: {error}.") from error
    path, query = (urllib.parse.quote(text, safe="%/:=&?~+!$,;'@()*[]") for text in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))
