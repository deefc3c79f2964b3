"""Write the training conversations of the mini's language model: described/train.jsonl, holdout.jsonl and images/.

    python finetune/text/build.py --data ferplus/train.parquet --without ferplus/validation.parquet -o described/

The texts of finetune/text/*.txt are multiplied by changes that keep them true (train/text/handwritten.py). Other faces,
measured by the mini, are asked only for their label; holdout.jsonl has such faces for the calibration of the verdict.
"""

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

import emoreason
from emoreason.data import sources
from emoreason.data.messages import write
from emoreason.data.schema import Sample
from emoreason.explain.sheet import Sheet
from emoreason.faces.detect import whole_picture
from emoreason.media.images import open_picture
from emoreason.train.text import handwritten
from emoreason.train.text.describe import digest_of
from emoreason.train.text.handwritten import votes_of

HERE = Path(__file__).parent
BATCH = 256


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--without", type=Path, required=True, help="leave out its faces, by their pixels")
    options.add_argument("-o", "--out", type=Path, required=True)
    options.add_argument("--copies", type=int, default=2, help="variants of each text")
    options.add_argument("--verdicts", type=int, default=6000, help="faces that are only asked for their label")
    options.add_argument("--holdout", type=int, default=1500)
    options.add_argument("--texts", default="texts_*.txt")
    options.add_argument("--seed", type=int, default=7)
    asked = options.parse_args()
    (asked.out / "images").mkdir(parents=True, exist_ok=True)
    samples = list(sources.read(asked.data))
    forbidden = {digest_of(sample) for sample in sources.read(asked.without)}
    rng = random.Random(asked.seed)

    scenes = handwritten.read_scenes(HERE / "scenes.jsonl")
    texts = handwritten.read_texts(sorted(HERE.glob(asked.texts)))
    conversations = []
    for copy in range(asked.copies):
        for name, text in texts.items():
            scene = scenes[name]
            if copy:
                scene, text = handwritten.multiply(scene, text, rng)
            face = samples[scene.faces[scene.chosen].row]
            image = _save(face, asked.out)
            if text.explanation is not None:
                votes = votes_of(face)
                known = votes if votes and set(votes) <= set(scene.faces[scene.chosen].sheet.labels) else None
                conversations.append(handwritten.explanation(scene, text, image, known))
            if copy and rng.random() < 0.15:
                text = replace(text, explanation=None)  # an answer must not need the explanation
            conversations.append(handwritten.conversation(scene, text, image))
    print(f"{len(texts)} scenes, {len(conversations)} conversations")

    used = {face.row for scene in scenes.values() for face in scene.faces}
    rest = [
        i for i, face in enumerate(samples) if i not in used and votes_of(face) and digest_of(face) not in forbidden
    ]
    rng.shuffle(rest)
    rest = rest[: asked.verdicts + asked.holdout]
    model = emoreason.load("mini")
    asked_only = []
    for start in range(0, len(rest), BATCH):
        part = [samples[i] for i in rest[start : start + BATCH]]
        pictures = [open_picture(face.image) for face in part]
        analyses = model.analyze_faces([(picture, [whole_picture(picture)]) for picture in pictures])
        for face, analysis in zip(part, analyses, strict=True):
            sheet, votes = Sheet.of(analysis.faces[0].evidence), votes_of(face)
            assert votes is not None
            sheet = handwritten.rounded(sheet)
            asked_only.append(handwritten.verdict(Path(face.id).stem, sheet, _save(face, asked.out), votes))
    write(iter(asked_only[: asked.holdout]), asked.out / "holdout.jsonl")
    write(iter(conversations + asked_only[asked.holdout :]), asked.out / "train.jsonl")
    print(json.dumps({"train": len(conversations) + len(asked_only) - asked.holdout, "holdout": asked.holdout}))


def _save(face: Sample, out: Path) -> str:
    name = f"images/{Path(face.id).stem}.png"
    if not (out / name).is_file():
        open_picture(face.image).image.save(out / name)
    return name


if __name__ == "__main__":
    main()
