"""Measures how fast pictures are labeled, in total and stage by stage, and compares with the PyPI package `fer`.

    python eval/bench_label.py                                     crops of the example picture, composed photos
    python eval/bench_label.py --ferplus ferplus/                  crops from the faces of its validation.parquet
    python eval/bench_label.py --peer fer-venv/bin/python -o speed.json

Crops are grey 48x48 PNG files, labeled as `emoreason label --no-detect` does. Photos are JPEG files of one megapixel,
composed of pictures that come with packages (pip install scikit-image), labeled with detection. Each stage is timed
alone, in one thread; the total is the pipeline as users run it, where stages overlap, without loading and warm-up.
"""

import argparse
import io
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoreason.core.row_files import RowFile
from emoreason.label import LabelJob, made_with, row_columns, run
from emoreason.reasoner import Reasoner

PEER = Path(__file__).parent / "peers" / "fer_peer.py"
ASTRONAUT = Path(__file__).parent.parent / "examples" / "astronaut.jpg"
FACE = (152, 42, 148)  # left, top, side of FER2013's frame around the astronaut's face
PHOTO_SIZE = (1152, 868)
FACES_PER_PHOTO = (1, 2, 1, 3, 1, 4, 2, 1, 0, 1)  # one photo in ten shows nobody, which takes the longest search
WARM_UP = 256


@dataclass(frozen=True)
class Speed:
    """The result for one kind of pictures. Seconds are medians over the repeats, for all pictures together."""

    kind: str
    pictures: int
    faces: int
    stages: dict[str, float]  # in one thread, one stage after another
    total: float  # the pipeline
    peak_mib: float  # of the process while the pipeline runs
    before_mib: float  # of the process before that: Python, torch and the model

    @property
    def rate(self) -> float:
        return self.pictures / self.total


# ---- pictures --------------------------------------------------------------------------------------------------------


def write_crops(folder: Path, n: int, ferplus: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    crops = _ferplus_crops(ferplus, n) if ferplus else _astronaut_crops(n)
    for number, data in enumerate(crops):
        (folder / f"{number:05d}.png").write_bytes(data)


def _ferplus_crops(folder: Path, n: int) -> list[bytes]:
    """The first n faces, starting again from the first if there are fewer."""
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "validation.parquet", columns=["image"])["image"].slice(0, n).to_pylist()
    return [rows[number % len(rows)]["bytes"] for number in range(n)]


def _astronaut_crops(n: int) -> list[bytes]:
    """The same face shifted, scaled and noisy, which takes as long as n different faces."""
    rng, whole = np.random.default_rng(0), Image.open(ASTRONAUT).convert("L")
    crops = []
    for _ in range(n):
        left, top, side = FACE + rng.integers(-8, 9, 3)
        face = whole.resize((48, 48), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        noisy = (np.asarray(face) + rng.normal(0, 4, (48, 48))).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "PNG")
        crops.append(stream.getvalue())
    return crops


def write_photos(folder: Path, n: int) -> None:
    from bench_faces import group, load, photo

    folder.mkdir(parents=True, exist_ok=True)
    images = load()
    for number in range(n):
        count = FACES_PER_PHOTO[number % len(FACES_PER_PHOTO)]
        if count:
            scene, _ = group(images, count, 120 + 37 * number % 200, PHOTO_SIZE)
        else:
            scene = images[("china", "flower")[number // 10 % 2]].resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        (folder / f"{number:05d}.jpg").write_bytes(photo(scene))


# ---- measuring -------------------------------------------------------------------------------------------------------


def label_files(reasoner: Reasoner, job: LabelJob, sources: list[str]) -> int:
    """Does what `emoreason label` does after loading. Returns the number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        rows = RowFile(Path(folder) / "rows.jsonl", row_columns(reasoner, job), made_with=made_with(reasoner, job))
        return sum(run(reasoner, job, rows, sources).statuses.values())


def time_stages(reasoner: Reasoner, job: LabelJob, sources: list[str]) -> tuple[int, dict[str, float]]:
    """Runs each stage alone in one thread -> number of faces, seconds by stage."""
    import torch

    from emoreason.media.images import open_picture

    encoder, threads = reasoner.reader.zeroshot.encoder, torch.get_num_threads()
    spent = dict.fromkeys(("decode", "detect", "encode", "write"), 0.0)

    def timed(stage: str, action: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = action()
        spent[stage] += time.perf_counter() - start
        return answer

    torch.set_num_threads(1)
    pictures, small = [], Image.new("RGB", (1, 1))
    for source in sources:  # with one photo in memory at a time, like the pipeline
        picture = timed("decode", lambda source=source: open_picture(source))
        faces = timed("detect", lambda picture=picture: reasoner.faces(picture, job.detect))
        cut = []
        for face in faces:
            pixels = timed("encode", lambda face=face: encoder.pixels(face.crop))
            cut.append(replace(face, crop=Image.fromarray(pixels)))
        pictures.append((replace(picture, image=small), cut))
    analyses = timed("encode", lambda: reasoner.analyze_faces(pictures, job.labels, job.batch_size))
    with tempfile.TemporaryDirectory() as folder:
        rows = RowFile(Path(folder) / "rows.jsonl", row_columns(reasoner, job), made_with=made_with(reasoner, job))
        timed("write", lambda: [rows.write(analysis.rows()) for analysis in analyses])
        rows.finish()
    torch.set_num_threads(threads)
    return sum(len(faces) for _, faces in pictures), spent


def measure(reasoner: Reasoner, kind: str, folder: Path, repeats: int, workers: int) -> Speed:
    job = LabelJob((str(folder),), detect=kind == "photos", workers=workers)
    sources = job.sources()
    label_files(reasoner, job, sources[:WARM_UP])
    before = memory_mib("VmRSS")
    _forget_peak()
    totals = [_seconds(lambda: label_files(reasoner, job, sources)) for _ in range(repeats)]
    peak = memory_mib("VmHWM")
    runs = [time_stages(reasoner, job, sources) for _ in range(repeats)]
    stages = {stage: statistics.median(spent[stage] for _, spent in runs) for stage in runs[0][1]}
    return Speed(kind, len(sources), runs[0][0], stages, statistics.median(totals), peak, before)


def bare_network(reasoner: Reasoner, folder: Path, repeats: int, batch: int = 64) -> float:
    """Faces per second of the encoder alone, on decoded pictures with all cores. fer's is timed the same way."""
    from emoreason.media.images import open_picture

    encoder = reasoner.reader.zeroshot.encoder
    pixels = np.stack([encoder.pixels(open_picture(path).image) for path in sorted(folder.iterdir())])
    batches = [pixels[start : start + batch] for start in range(0, len(pixels), batch)]
    encoder.encode_pixels(batches[0])
    return len(pixels) / statistics.median(
        _seconds(lambda: [encoder.encode_pixels(b) for b in batches]) for _ in range(repeats)
    )


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def memory_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process. Without /proc, the peak since its start."""
    try:
        match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        match = None
    if match:
        return int(match[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _forget_peak() -> None:
    """Resets the peak on Linux. Elsewhere it stays the peak of the whole process, which is at least as high."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peer_speed(python: str, kind: str, folder: Path, repeats: int) -> dict[str, Any]:
    command = [python, str(PEER), "--bench", str(folder), "--kind", kind, "--repeats", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}; eval/peers/README.md says how to set it up"
        )
    return json.loads(done.stdout.splitlines()[-1])


# ---- reporting -------------------------------------------------------------------------------------------------------


def table(speeds: list[Speed]) -> str:
    lines = ["| | pictures | faces | decode | detect and cut | encode | write | **total** | memory before → peak |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for speed in speeds:
        cells = [_both(speed.pictures, seconds) for seconds in (*speed.stages.values(), speed.total)]
        cells[-1] = f"**{cells[-1]}**"
        memory = f"{speed.before_mib:.0f} → {speed.peak_mib:.0f} MiB"
        lines.append(f"| {speed.kind} | {speed.pictures} | {speed.faces} | {' | '.join(cells)} | {memory} |")
    return "\n".join(lines)


def _both(pictures: int, seconds: float) -> str:
    return f"{pictures / seconds:.0f}/s, {1000 * seconds / pictures:.2f} ms"


def peer_table(speeds: dict[str, Speed], network: float, peers: dict[str, dict[str, Any]]) -> str:
    crops, photos = speeds.get("crops"), speeds.get("photos")
    rows: list[tuple[str, float, float, str]] = []
    if photos and (peer := peers.get("photos")):
        found = f"{peer['faces_found']} faces against {photos.faces}"
        rows.append(("photos, FER().detect_emotions(path)", photos.rate, peer["api"], found))
    if crops and (peer := peers.get("crops")):
        n = peer["files"]
        default, lower = (f"{peer[key]} of {n}" for key in ("files_with_faces", "files_with_faces_min20"))
        rows.append(("crops, FER().detect_emotions(path)", crops.rate, peer["api"], f"a face in {default}"))
        rows.append(("crops, FER(min_face_size=20)", crops.rate, peer["api_min20"], f"a face in {lower}"))
        rows.append(("crops, told that all of it is the face", crops.rate, peer["api_whole"], f"{n} of {n}"))
        rows.append(("crops decoded, bare networks in batches of 64", network, peer["network"], f"{n} of {n}"))
    lines = ["| | emoreason | fer | emoreason / fer | fer finds |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {what} | {a:.0f}/s | {b:.0f}/s | {a / b:.2f} | {found} |" for what, a, b, found in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=3000, help="number of crops; 0 leaves them out")
    parser.add_argument("--photos", type=int, default=150, help="number of photos; 0 leaves them out")
    parser.add_argument("--ferplus", type=Path, metavar="DIR", help="take the crops from DIR/validation.parquet")
    parser.add_argument("--peer", metavar="PYTHON", help="Python interpreter of the environment with fer")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()

    start = time.perf_counter()
    import open_clip  # noqa: F401  (brings torch, timm and transformers)

    imported = time.perf_counter()
    import emoreason

    reasoner = emoreason.load(options.model, device_name=options.device)
    loaded = time.perf_counter()
    reasoner.reader.zeroshot.prototypes(reasoner.default_labels)
    prompted = time.perf_counter()
    load_seconds = {"import": imported - start, "model": loaded - imported, "prompts": prompted - loaded}

    speeds: dict[str, Speed] = {}
    peers: dict[str, dict[str, Any]] = {}
    network = 0.0
    with tempfile.TemporaryDirectory() as place:
        for kind, n in (("crops", options.crops), ("photos", options.photos)):
            if not n:
                continue
            folder = Path(place) / kind
            if kind == "crops":
                write_crops(folder, n, options.ferplus)
            else:
                write_photos(folder, n)
            speeds[kind] = measure(reasoner, kind, folder, options.repeats, options.workers)
            if kind == "crops":
                network = bare_network(reasoner, folder, options.repeats)
            if options.peer:
                peers[kind] = peer_speed(options.peer, kind, folder, options.repeats)

    import torch

    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    machine += f", {options.workers} workers"
    print(f"{reasoner.name} {reasoner.revision} in {reasoner.compute.dtype} ({reasoner.compute.reason}); {machine}\n")
    print(table(list(speeds.values())))
    imports, model, prompts = load_seconds.values()
    print(
        f"\nBefore the first picture, once: imports {imports:.1f} s, model {model:.1f} s, prompts {prompts:.2f} s "
        "(close to 0 from the second run on, as their embeddings are cached on disk)."
    )
    if network:
        print(f"The encoder alone, batches of 64, all cores: {network:.0f} faces/s.")
    if peers:
        print("\n" + peer_table(speeds, network, peers))
    if options.output:
        results = {"model": reasoner.name, "revision": reasoner.revision, "compute": asdict(reasoner.compute),
                   "machine": machine, "repeats": options.repeats, "load_seconds": load_seconds, "network": network,
                   "speeds": {kind: asdict(speed) | {"rate": speed.rate} for kind, speed in speeds.items()},
                   "fer": peers}  # fmt: skip
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
