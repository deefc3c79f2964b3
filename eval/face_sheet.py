"""Draws a page of faces with what the program says of each, to be read by a person who knows faces.

    python eval/face_sheet.py --data ferplus/validation.parquet --faces 20 --seed 1 -o sheet.png

The page shows pictures of the data: keep it out of the repository if their licence asks for that.
"""

import argparse
import io
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

import emoreason
from emoreason.core.probabilities import percent

FACE, WIDTH, COLUMNS = 224, 620, 2
LINE = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", type=Path, help="a text file with the names of the faces, instead of a random draw")
    parser.add_argument("--detect", action="store_true", help="find the face first, for photos")
    parser.add_argument("--model", default="mini")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rows = pq.read_table(options.data, columns=["image"])["image"].to_pylist()
    if options.names:
        wanted = options.names.read_text().split()
        rows = sorted((row for row in rows if row["path"] in wanted), key=lambda row: wanted.index(row["path"]))
    else:
        chosen = np.random.default_rng(options.seed).permutation(len(rows))[: options.faces]
        rows = [rows[i] for i in chosen]
    reasoner = emoreason.load(options.model)
    analyses = [reasoner.analyze(row["bytes"], detect=options.detect) for row in rows]
    height = FACE + 16
    sheet = Image.new("RGB", (COLUMNS * (FACE + WIDTH), -(-len(rows) // COLUMNS) * height), "white")
    for i, (row, analysis) in enumerate(zip(rows, analyses, strict=True)):
        x, y = i % COLUMNS * (FACE + WIDTH), i // COLUMNS * height
        face = Image.open(io.BytesIO(row["bytes"])).convert("RGB").resize((FACE, FACE), Image.Resampling.LANCZOS)
        sheet.paste(face, (x, y))
        _write(ImageDraw.Draw(sheet), (x + FACE + 8, y + 4), _told(i + 1, analysis))
    sheet.save(options.output)


def _told(number: int, analysis: emoreason.Analysis) -> str:
    if not analysis.faces:
        return f"{number}: no face was found"
    face = analysis.faces[0]
    evidence = face.evidence
    head = f"no answer: {evidence.why}" if evidence.abstained else f"{face.label}, {percent(face.confidence)}"
    ranked = sorted(evidence.action_units.items(), key=lambda unit: -unit[1])
    units = " ".join(f"{code}:{x:.1f}" for code, x in ranked if x >= 0.1)
    pose = " ".join(f"{x:+.0f}" for x in evidence.pose or ())
    known = "calibrated" if evidence.calibrated else "estimated"
    text = face.explanation.text if face.explanation else ""
    return f"{number}: {head} ({known}, shift {evidence.shift or 0:.2f}, pose {pose})\n{units}\n{text}"


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> None:
    font = ImageFont.load_default(12)
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, 100)]
    for n, line in enumerate(lines):
        draw.text((at[0], at[1] + n * LINE), line, fill="black", font=font)


if __name__ == "__main__":
    main()
