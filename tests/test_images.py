"""Every kind of input is a picture or one clear error. The tests write their small files and serve them on loopback."""

import base64
import http.server
import io
import os
import struct
import sys
import threading
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Picture
from emoreason.media.images import UPRIGHT, Limits, find_pictures, natural_sort_key, open_frames, open_picture

# Four quadrants of four colours: every turn and mirror image of it looks different.
RED, GREEN, BLUE, GREY = (250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128)


def quadrants(width: int = 64, height: int = 32) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(GREY, (width // 2, height // 2, width, height))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def same(picture: Picture, expected: Image.Image, tolerance: float = 0) -> bool:
    assert picture.image.mode == "RGB" and picture.image.size == expected.size
    difference = np.abs(np.asarray(picture.image, int) - np.asarray(expected.convert("RGB"), int))
    return float(np.percentile(difference, 95)) <= tolerance


# ---- what can be given -----------------------------------------------------------------------------------------------


def test_path_bytes_data_uri_and_pil_give_the_same_picture(tmp_path):
    image = quadrants()
    raw = encoded(image)
    path = tmp_path / "a picture.png"
    path.write_bytes(raw)
    uri = "data:image/png;base64," + base64.b64encode(raw).decode()
    quoted = "data:image/png," + "".join(f"%{byte:02x}" for byte in raw)
    for source in (path, str(path), raw, bytearray(raw), memoryview(raw), uri, uri.rstrip("="), quoted, image):
        assert same(open_picture(source), image), type(source)
    assert open_picture(path).source == str(path)
    assert open_picture(raw).source.startswith("bytes:sha256:") and open_picture(uri).source.startswith(
        "data:image/png:"
    )


def test_a_given_pil_image_is_left_alone():
    image = quadrants()
    open_picture(image).image.paste((0, 0, 0), (0, 0, 40, 24))
    assert image.getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    "dtype, scale", [("uint8", 1), ("uint16", 257), ("float32", 1 / 255), ("float64", 1), ("int64", 1)]
)
def test_arrays_of_all_number_types(dtype, scale):
    image = quadrants()
    array = (np.asarray(image).astype(np.float64) * scale).astype(dtype)
    assert same(open_picture(array), image, 1)
    assert same(open_picture(array.transpose(2, 0, 1)), image, 1)
    assert same(open_picture(array[..., 0]), image.getchannel(0), 1)
    assert same(open_picture(array[..., :1]), image.getchannel(0), 1)
    opaque = np.concatenate([array, np.full_like(array[..., :1], 255 * scale)], axis=2)
    assert same(open_picture(opaque), image, 1)


def test_boolean_mask_is_black_and_white():
    assert open_picture(np.eye(8, dtype=bool)).image.getpixel((3, 3)) == (255, 255, 255)


def test_transparent_array_shows_the_white_page():
    array = np.zeros((6, 7, 4), np.uint8)
    assert same(open_picture(array), Image.new("RGB", (7, 6), "white"))


def test_tensors_in_both_layouts():
    torch = pytest.importorskip("torch")
    image = quadrants()
    tensor = torch.from_numpy(np.asarray(image).copy())
    for given_tensor in (
        tensor,
        tensor.permute(2, 0, 1),
        tensor.permute(2, 0, 1).float() / 255,
        (tensor.float() / 255).requires_grad_(),
        (tensor.permute(2, 0, 1).float() / 255).to(torch.bfloat16),
    ):
        assert same(open_picture(given_tensor), image, 2)
    assert open_picture(torch.zeros(3, 5, 3)).image.size == (3, 5), "for tensors the channels come first"


@pytest.mark.parametrize(
    "array, word",
    [
        (np.zeros((2, 3, 8, 8), np.uint8), "batch"),
        (np.zeros((8, 8, 5), np.uint8), "HxWx3"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.full((8, 8), np.nan), "NaN"),
        (np.linspace(-2.1, 2.6, 192).reshape(8, 8, 3), "normalisation"),
        (np.full((8, 8), 300.0), "0..255"),
        (np.full((8, 8), "x"), "expected uint8"),
        (np.zeros((8, 8), complex), "expected uint8"),
    ],
)
def test_unusable_arrays_are_named(array, word):
    with pytest.raises(EmoreasonError, match=word):
        open_picture(array)


@pytest.mark.parametrize("thing", [None, 3, ["a.png"], object()])
def test_other_things_are_refused(thing):
    with pytest.raises(EmoreasonError, match="cannot be opened as a picture"):
        open_picture(thing)


# ---- what can be inside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(orientation, kind):
    upright = quadrants()
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)  # the inverse of each turn
    stored = upright.transpose(UPRIGHT[back]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if kind in ("JPEG", "WEBP") else {})
    raw = encoded(stored, kind, **options)
    picture = open_picture(raw)
    assert same(picture, upright, 40)
    assert same(open_picture(picture.image), upright, 40), "handing the result in again must not turn it again"
    assert same(open_picture(Image.open(io.BytesIO(raw))), upright, 40), "a PIL image read by the caller is turned too"


def test_broken_exif_does_not_cost_the_picture():
    raw = encoded(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken", quality=95)
    assert same(open_picture(raw), quadrants(), 40)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F", "I"])
def test_modes(mode):
    image = quadrants().convert("L") if mode in ("1", "L", "LA", "I;16", "F", "I") else quadrants()
    if mode in ("I;16", "I"):
        grey = np.asarray(image).astype(np.uint16) * 257
        stored = Image.fromarray(grey if mode == "I;16" else grey.astype(np.int32))
    elif mode == "F":
        stored = Image.fromarray(np.asarray(image, np.float32) / 255)
    else:
        stored = image.quantize(4) if mode == "P" else image.convert(mode)
    # Pillow 12.3 cannot read the uncompressed YCbCr that it writes.
    packed = {"compression": "tiff_lzw"} if mode == "YCbCr" else {}
    raw = encoded(stored, "TIFF" if mode in ("CMYK", "YCbCr", "F", "I") else "PNG", **packed)
    expected = image.convert("1") if mode == "1" else image
    assert same(open_picture(raw), expected, 12)


def test_cmyk_jpeg():
    assert same(open_picture(encoded(quadrants().convert("CMYK"), "JPEG", quality=95)), quadrants(), 40)


def test_16_bit_colour_png():
    values = np.zeros((4, 4, 3), ">u2")
    values[..., 0] = 65535
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    assert open_picture(png(4, 4, zlib.compress(rows), depth=16)).image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("values", [np.array([[0.0, 1e9]]), np.array([[-5.0, np.nan, 5.0]])])
def test_floats_of_no_known_range_are_stretched(values):
    picture = open_picture(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"))
    assert picture.image.getpixel((values.shape[1] - 1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_transparency_shows_the_white_page(kind):
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 12))
    picture = open_picture(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert picture.image.getpixel((3, 3)) == (255, 255, 255) and picture.image.getpixel((35, 20)) == GREY


def test_palette_with_transparency_bytes():
    image = quadrants().quantize(4)
    picture = open_picture(encoded(image, transparency=bytes([255, 255, 0, 255])))
    assert (255, 255, 255) in {color for _, color in picture.image.getcolors()}


def test_the_suffix_is_not_believed(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(quadrants(), "PNG"))
    assert same(open_picture(path), quadrants())
    (tmp_path / "noise").write_bytes(encoded(quadrants(), "BMP"))
    assert same(open_picture(tmp_path / "noise"), quadrants())


# ---- animations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_and_their_times(kind):
    frames = [Image.new("RGB", (16, 12), color) for color in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=[100, 250, 50], **options)
    found = list(open_frames(raw))
    assert [(picture.frame, picture.time_s) for picture in found] == [(0, 0.0), (1, 0.1), (2, 0.35)]
    assert all(same(picture, frame, 2) for picture, frame in zip(found, frames, strict=True))
    assert same(open_picture(raw), frames[0], 2) and open_picture(raw).frame is None
    with pytest.raises(EmoreasonError, match="more than 2 frames"):
        list(open_frames(raw, Limits(max_frames=2)))


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "PNG", "TIFF"])
def test_a_still_has_one_frame_without_number(kind):
    extra = {"save_all": True, "append_images": [quadrants()]} if kind == "TIFF" else {}
    found = list(open_frames(encoded(quadrants(), kind, **extra)))
    assert [(picture.frame, picture.time_s) for picture in found] == [(None, None)], "the pages of a TIFF are no frames"
    assert len(list(open_frames(quadrants()))) == len(list(open_frames(np.zeros((4, 4))))) == 1


def test_a_damaged_animation_gives_its_good_frames_and_an_error():
    noise = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (60, 60, 3), np.uint8)) for i in range(4)]
    raw = encoded(noise[0], "GIF", save_all=True, append_images=noise[1:])
    frames = open_frames(raw[: len(raw) // 2])
    assert next(frames).frame == 0
    with pytest.raises(EmoreasonError, match="damaged"):
        list(frames)


# ---- broken and hostile files ----------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes, depth: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "empty"),
        (b"hello, I am a text", "not a picture"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7", "document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\x1aE\xdf\xa3 matroska", "video"),
        (b"\x89PNG\r\n\x1a\n", "damaged|not a picture"),
        (os.urandom(4096), "not a picture|damaged"),
        (encoded(quadrants(400, 400), "JPEG")[:900], "damaged"),
        (encoded(quadrants(400, 400), "PNG")[:300], "damaged"),
        (encoded(quadrants(400, 400), "WEBP")[:80], "damaged|not a picture"),
        (png(4, 4, b"not deflated"), "damaged"),
    ],
)
def test_broken_files_give_one_clear_error(tmp_path, content, word):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(EmoreasonError, match=word) as caught:
            open_picture(source)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
        with pytest.raises(EmoreasonError, match=word):
            list(open_frames(source))


def test_bombs_are_stopped_by_their_header():
    bomb = png(60_000, 60_000, zlib.compress(b"\0" * 100_000))
    tracemalloc.start()
    with pytest.raises(EmoreasonError, match="pixels|memory"):
        open_picture(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    with pytest.raises(EmoreasonError, match="64x32.*limit"):
        open_picture(encoded(quadrants()), Limits(max_pixels=900))
    for source in (quadrants(), np.zeros((24, 40, 3), np.uint8)):
        with pytest.raises(EmoreasonError, match="limit"):
            open_picture(source, Limits(max_pixels=900))


def test_a_warning_of_pillow_that_became_an_error_is_still_a_clear_error():

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EmoreasonError):
            open_picture(png(10_000, 9_500, b""))


@pytest.mark.parametrize(
    "path", ["missing.png", "bad\0name.png", "x" * 5000, "", "ftp://example.org/a.png", "s3://a/b"]
)
def test_paths_that_cannot_be_opened(path):
    with pytest.raises(EmoreasonError):
        open_picture(path)


def test_folders_devices_and_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(EmoreasonError, match="folder|not a regular file"):
            open_picture(path)


@pytest.mark.parametrize(
    "uri", ["data:image/png;base64,@@@", "data:image/png;base64", "data:,", "data:image/png;base64,aGVsbG8="]
)
def test_bad_data_uris(uri):
    with pytest.raises(EmoreasonError):
        open_picture(uri)


SEEDS = [
    encoded(quadrants(), "JPEG"),
    encoded(quadrants(), "PNG"),
    encoded(quadrants(), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 24))]),
    encoded(quadrants(), "WEBP"),
    encoded(quadrants(), "TIFF"),
    encoded(quadrants(), "BMP"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(SEEDS),
    cut=st.floats(0, 1),
    hits=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), max_size=12),
)
def test_whatever_the_bytes_are_it_is_a_picture_or_a_clear_error(seed, cut, hits):
    raw = bytearray(seed)
    for place, value in hits:
        raw[int(place * len(raw))] = value
    raw = raw[: max(1, int(len(raw) * cut))] if cut < 0.5 else raw
    limits = Limits(max_pixels=1_000_000, max_frames=10)
    for read in (lambda: [open_picture(bytes(raw), limits)], lambda: list(open_frames(bytes(raw), limits))):
        try:
            pictures = read()
        except EmoreasonError:
            continue
        assert all(picture.image.mode == "RGB" for picture in pictures)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 1, 3, 4]), st.sampled_from(["u1", "u2", "f4"]))
def test_arrays_keep_their_size(height, width, channels, dtype):
    shape = (height, width) if channels is None else (height, width, channels)
    assert open_picture(np.ones(shape, dtype)).image.size == (width, height)


# ---- finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "img10.png",
        "img2.PNG",
        "IMG1.jpg",
        "notes.txt",
        ".hidden.png",
        "b/x.webp",
        "b/a/y.gif",
        ".git/z.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def relative(found, top: Path) -> list[str]:
    return [os.path.relpath(name, top) for name in found]


def test_folders_are_walked_in_natural_order_without_hidden_and_other_files(tree):
    expected = ["IMG1.jpg", "img2.PNG", "img10.png", "b/x.webp", "b/a/y.gif"]
    assert relative(find_pictures([tree]), tree) == expected
    assert relative(find_pictures(tree), tree) == relative(find_pictures(str(tree)), tree) == expected


def test_named_files_are_always_given(tree):
    named = [str(tree / "notes.txt"), str(tree / ".hidden.png"), tree / "img10.png"]
    assert relative(find_pictures(named), tree) == ["notes.txt", ".hidden.png", "img10.png"]


def test_globs(tree):
    assert relative(find_pictures([f"{tree}/img*"]), tree) == ["img2.PNG", "img10.png"]
    assert relative(find_pictures([f"{tree}/**/*"]), tree) == [
        "b/a/y.gif",
        "b/x.webp",
        "IMG1.jpg",
        "img2.PNG",
        "img10.png",
    ]
    assert relative(find_pictures([f"{tree}/*.txt"]), tree) == ["notes.txt"], "a suffix that is spelled out is wanted"
    (tree / "odd[1].png").write_bytes(b"")
    assert relative(find_pictures([tree / "odd[1].png"]), tree) == ["odd[1].png"], "an existing name is no pattern"


def test_missing_arguments_are_refused_before_any_work(tree):
    for bad in ("missing.jpg", f"{tree}/*.bmp", "", "a\0b"):
        with pytest.raises(EmoreasonError, match="does not exist|No picture matches"):
            find_pictures([tree, bad])


def test_addresses_pass_through():
    sources = ["http://example.org/a.png?x=1", "https://example.org/*.png", "data:image/png;base64,AAAA"]
    assert list(find_pictures(sources)) == sources


def test_list_on_stdin(tree, monkeypatch):
    lines = f"{tree}/img10.png\r\n\n{tree}/b\nhttp://example.org/a.png\n{tree}/gone.png\n".encode() + b"caf\xe9.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    found = list(find_pictures(["-"]))
    assert relative(found[:3], tree) == ["img10.png", "b/x.webp", "b/a/y.gif"]
    assert found[3:] == ["http://example.org/a.png", f"{tree}/gone.png", os.fsdecode(b"caf\xe9.png")]


def test_circles_of_links_end(tree):
    (tree / "b" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "link.png").symlink_to(tree / "img10.png")
    (tree / "other").symlink_to(tree / "b" / "a", target_is_directory=True)
    found = relative(find_pictures(tree), tree)
    assert found == ["IMG1.jpg", "img2.PNG", "img10.png", "link.png", "b/x.webp", "b/a/y.gif", "other/y.gif"]


def test_a_deep_tree_is_no_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    Path("deep.png").write_bytes(b"")
    assert len(list(find_pictures(tmp_path))) == 1
    Path("deep.png").unlink()
    for _ in range(1100):  # pytest would clean up by recursion
        os.chdir("..")
        os.rmdir("d")


def test_many_files_take_little_memory(tmp_path):
    for number in range(20_000):
        os.close(os.open(tmp_path / f"face_{number}.png", os.O_CREAT))
    tracemalloc.start()
    count = sum(1 for _ in find_pictures(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000 and peak < 400 * count


@given(st.lists(st.integers(0, 10**6), min_size=1), st.sampled_from(["", "0", "000"]))
def test_natural_order_is_the_order_of_numbers(numbers, zeros):
    names = sorted((f"img{zeros}{number}.png" for number in numbers), key=natural_sort_key)
    assert [int(name[3:-4]) for name in names] == sorted(numbers)


# ---- downloads -------------------------------------------------------------------------------------------------------


class Site(http.server.BaseHTTPRequestHandler):
    picture = encoded(quadrants())

    def do_GET(self) -> None:
        path = self.path
        if path.startswith("/redirect/"):
            steps = int(path.rsplit("/", 1)[1])
            self.reply(302, location=f"/redirect/{steps - 1}" if steps > 1 else "/a.png")
        elif path == "/to-file":
            self.reply(302, location="file:///etc/passwd")
        elif path == "/to-ftp":
            self.reply(302, location="ftp://127.0.0.1/a.png")
        elif path == "/loop":
            self.reply(302, location="/loop")
        elif path in ("/a.png", "/caf%C3%A9%20x.png?q=1%202"):
            self.reply(200, self.picture)
        elif path == "/page":
            self.reply(200, b"<!doctype html><p>a page")
        elif path == "/large":
            self.reply(200, b"x" * 5000)
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            self.pour(b"x" * 65536, pause=0)
        elif path == "/drip":
            self.send_response(200)
            self.end_headers()
            self.pour(b"x", pause=0.1)
        elif path == "/drip-head":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
            self.pour(b"x", pause=0.1)
        elif path == "/silent":
            time.sleep(3)
        elif path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(self.picture[:50])
        elif path == "/garbage":
            self.wfile.write(b"\xff\xfe nothing like HTTP\r\n\r\n")
        else:
            self.reply(404)

    def reply(self, code: int, body: bytes = b"", location: str = "") -> None:
        self.send_response(code)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pour(self, piece: bytes, pause: float) -> None:
        end = time.monotonic() + 10
        try:
            while time.monotonic() < end:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_download(site):
    picture = open_picture(f"{site}/a.png")
    assert same(picture, quadrants()) and picture.source == f"{site}/a.png"
    assert same(open_picture(f"{site}/café x.png?q=1 2#part"), quadrants()), "quoted as a browser does"
    assert same(open_picture(f"{site}/redirect/3"), quadrants())
    assert len(list(open_frames(f"{site}/a.png"))) == 1


@pytest.mark.parametrize(
    "path, word",
    [
        ("/gone.png", "404"),
        ("/page", "web page"),
        ("/to-file", "not allowed"),
        ("/to-ftp", "not an http or https address"),
        ("/loop", "redirect"),
        ("/redirect/9", "redirect"),
        ("/short", "cannot be fetched|damaged"),
        ("/garbage", "cannot be fetched"),
    ],
)
def test_failed_downloads_are_explained(site, path, word):
    with pytest.raises(EmoreasonError, match=word):
        open_picture(site + path)


@pytest.mark.parametrize("path", ["/large", "/endless"])
def test_downloads_are_bounded_in_size(site, path):
    with pytest.raises(EmoreasonError, match="larger than"):
        open_picture(site + path, Limits(max_bytes=4000))


@pytest.mark.parametrize("path", ["/silent", "/drip", "/drip-head"])
def test_downloads_are_bounded_in_time_however_the_server_stalls(site, path):
    with pytest.raises(EmoreasonError, match="longer than 0.5 s"):  # the servers never finish
        open_picture(site + path, Limits(timeout_s=0.5))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_private_hosts_can_be_refused(site, host):
    with pytest.raises(EmoreasonError, match="private address"):
        open_picture(site.replace("127.0.0.1", host) + "/a.png", Limits(allow_private_hosts=False))


@pytest.mark.parametrize(
    "url", ["http://", "http:///a.png", "http://[::1", "http://127.0.0.1:99999/a", "HTTP://127.0.0.1:1/a"]
)
def test_bad_addresses(url):
    with pytest.raises(EmoreasonError):
        open_picture(url, Limits(timeout_s=2))


def test_threads_open_pictures_side_by_side(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(encoded(Image.new("RGB", (number + 1, 5))))
    with ThreadPoolExecutor(8) as pool:
        widths = list(pool.map(lambda name: open_picture(name).image.width, find_pictures(tmp_path)))
    assert widths == list(range(1, 41))


def test_importing_is_light():
    import subprocess

    modules = "emoreason.media.images, emoreason.faces.detect"
    code = f"import sys, {modules}; print({{'torch', 'cv2', 'pandas'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
