"""The encoder: same answers however a crop is handed over or batched, folding changes no number, clear refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from emoreason.core import device
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.evidence.reader import Reader
from emoreason.media.images import open_picture
from emoreason.models.bundle import BUNDLES, bundles, find_bundle
from emoreason.models.encoder import Encoder, create_clip, fold_batch_norm, load_encoder
from emoreason.train.recipes.mini_readout import UNITS

FLOAT32 = device.Compute("cpu", "float32", "for a test")


@pytest.fixture(scope="module")
def exact() -> Encoder:
    """The shipped model in float32, so that equal means equal."""
    return load_encoder("mini", FLOAT32)


@pytest.fixture(scope="module")
def crops(astronaut) -> list[Image.Image]:
    face = Image.open(astronaut).crop((160, 40, 290, 170))
    return [
        face,
        face.convert("L"),
        face.rotate(15),
        face.resize((48, 48)),
        face.crop((0, 0, 130, 100)),
        Image.new("RGB", (9, 9)),
    ]


def test_batches_give_the_same_as_one_by_one(exact, crops):
    together = exact.encode_faces(crops, batch_size=4)
    for row, crop in enumerate(crops):
        alone = exact.encode_faces([crop])
        np.testing.assert_allclose(together.embedding[row], alone.embedding[0], atol=1e-5)
        np.testing.assert_allclose(together.units[row], alone.units[0], atol=1e-3)  # steep between two thresholds
        np.testing.assert_allclose(together.face.points[row], alone.face.points[0], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(together.embedding, axis=1), 1, atol=1e-5)
    assert together.units.shape == (len(crops), len(UNITS)) and together.units.min() >= 0 and together.units.max() <= 1


def test_a_face_and_its_mirror_image_show_the_same(exact, crops):
    from PIL import ImageOps

    small = [Image.fromarray(exact.pixels(crop)) for crop in crops]
    one, two = exact.encode_faces(small), exact.encode_faces([ImageOps.mirror(crop) for crop in small])
    np.testing.assert_allclose(one.embedding, two.embedding, atol=1e-5)


def test_grey_and_colour_of_one_face_agree(exact, crops):
    """Luma is the first layer: a grey copy differs by rounding alone."""
    one, two = exact.encode_faces(crops[:1]).embedding[0], exact.encode_faces(crops[1:2]).embedding[0]
    assert float(one @ two) > 0.99


def test_folding_batch_norm_changes_no_number():
    torch.manual_seed(0)
    clip, _ = create_clip("emoreason-mini")
    for module in clip.visual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    faces = torch.randn(4, 3, 48, 48)
    with torch.inference_mode():
        before = clip.visual(faces)
        fold_batch_norm(clip.visual)
        after = clip.visual(faces)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in clip.visual.modules())
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3)


def test_bfloat16_gives_nearly_the_same_distribution(exact, crops):
    """What a processor with bf16 units answers must be what the card's figures were measured with."""
    fast = load_encoder("mini", device.Compute("cpu", "bfloat16", "for a test"))
    one, two = exact.encode_faces(crops), fast.encode_faces(crops)
    assert (one.embedding * two.embedding).sum(axis=1).min() > 0.995
    assert np.abs(one.units - two.units).max() < 0.05


def test_texts_do_not_depend_on_their_neighbours(exact):
    long = "a photo of a person who looks as if the train had left without them"
    together = exact.encode_texts(["happy", long, "sad"])
    np.testing.assert_allclose(together[0], exact.encode_texts(["happy"])[0], atol=1e-5)


def test_changed_weights_are_refused(tmp_path):
    shutil.copytree(BUNDLES / "mini", tmp_path / "mini")
    raw = bytearray((tmp_path / "mini" / "weights.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "mini" / "weights.safetensors").write_bytes(raw)
    with pytest.raises(EmoreasonError, match="damaged or was changed"):
        load_encoder(str(tmp_path / "mini"), FLOAT32)


def test_shipped_bundle_says_what_it_is():
    bundle = bundles()["mini"]
    bundle.verify()
    spec = bundle.spec
    assert spec["units"] == list(UNITS) and spec["parameters"] < 12_000_000
    assert set(spec["calibration"]["points"]) == {"photo", "accurate", "balanced"}
    assert len(spec["trained_on"]["data_sha256"]) == 64
    assert find_bundle("nothing of the kind") is None
    assert not list(BUNDLES.rglob("*.pt")) and not list(BUNDLES.rglob("*.pth")) and not list(BUNDLES.rglob("*.bin"))
    json.dumps(spec)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mni", "nearest: mini"),
        ("ViT-L-14", "type ViT-L-14/TAG"),
        ("ViT-B-32/openai", "come from a hub"),
        ("ViT-B-32/nowhere", "could not be loaded"),
    ],
)
def test_models_that_cannot_be_had_say_what_to_type(name, message):
    with pytest.raises((UsageError, EmoreasonError), match=message):
        load_encoder(name, FLOAT32)


@pytest.mark.parametrize(("picture", "why"), [
    (Image.new("RGB", (200, 200), (120, 120, 120)), "almost even"),
    (Image.effect_noise((12, 12), 60).convert("RGB"), "12 pixels wide"),
])  # fmt: skip
def test_blank_and_tiny_pictures_are_no_evidence(mini, picture, why):
    analysis = mini.analyze(picture, detect=False)
    assert analysis.faces[0].status == "abstained" and why in analysis.faces[0].evidence.why


def test_threshold_decides_who_abstains(mini, astronaut):
    (face,) = mini.faces(open_picture(astronaut))
    features = mini.reader.zeroshot.encoder.encode_faces([face.crop])
    for threshold, abstains in ((0.0, False), (1.0, True)):
        reader = Reader(mini.reader.zeroshot, mini.reader.calibration, threshold=threshold)
        assert reader.read(features, mini.default_labels, [face])[0].abstained is abstains
