"""Turns FER+ faces upside down. The mini's encoder does not know such faces, so they show what finetuning can gain.

python eval/upside_down.py ferplus/ ferplus-upside-down/
emoreason finetune --data ferplus-upside-down/ --no-detect --what lora --tower.epochs 6 --out runs/upside
"""

import argparse
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

FACES = {"train": 3500, "validation": 1500}  # the first faces of each file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ferplus", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for split, n in FACES.items():
        table = pq.read_table(options.ferplus / f"{split}.parquet").slice(0, n)
        rows = table.to_pylist()
        for row in rows:
            row["image"]["bytes"] = turned(row["image"]["bytes"])
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), options.output / f"{split}.parquet")


def turned(png: bytes) -> bytes:
    buffer = io.BytesIO()
    ImageOps.flip(Image.open(io.BytesIO(png))).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
