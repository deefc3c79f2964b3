"""Any words as labels, prior correction, the text cache, and Exp-CLIP heads on a real-sized random CLIP."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from emoreason.core import device
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.probabilities import correct_prior, softmax
from emoreason.evidence.zeroshot import (
    Projection,
    TextCache,
    ZeroShot,
    check_labels,
    convert_projection,
    load_label_prompts,
    load_projection,
)
from emoreason.models.encoder import Encoder, create_clip

LOGITS = arrays(np.float64, (3, 4), elements=st.floats(-50, 50))


@pytest.fixture(scope="module")
def b16() -> Encoder:
    """ViT-B/16 of OpenAI's size with random weights: what Exp-CLIP's B16 head belongs to."""
    torch.manual_seed(0)
    clip, tokenizer = create_clip("ViT-B-16")
    return Encoder(clip, tokenizer, "ViT-B-16/random", "random", device.Compute("cpu", "float32", "test"))


@given(LOGITS, st.floats(0.1, 5))
def test_softmax_gives_distributions_that_a_shift_does_not_change(logits, temperature):
    p = softmax(logits, temperature)
    assert np.allclose(p.sum(axis=1), 1) and (p >= 0).all()
    np.testing.assert_allclose(p, softmax(logits + 7, temperature), atol=1e-9)


@given(LOGITS, st.floats(0, 1))
def test_an_even_prior_changes_nothing_and_a_rare_label_only_gains(logits, strength):
    np.testing.assert_allclose(softmax(correct_prior(logits, [0.25] * 4, strength)), softmax(logits), atol=1e-9)
    rare = softmax(correct_prior(logits, [0.01, 0.33, 0.33, 0.33], strength))
    assert (rare[:, 0] >= softmax(logits)[:, 0] - 1e-12).all()


def test_words_never_seen_keep_their_meaning(mini, astronaut):
    """joyful and furious stand in no training text; the astronaut smiles."""
    face = mini.analyze(astronaut, labels=["furious", "sorrowful", "joyful", "terrified"]).faces[0]
    assert face.label == "joyful" and not face.evidence.calibrated
    assert sum(face.probabilities.values()) == pytest.approx(1)


def test_the_order_of_the_labels_does_not_matter(mini, astronaut):
    one = mini.analyze(astronaut, labels=["anger", "happiness", "fear"]).faces[0].probabilities
    two = mini.analyze(astronaut, labels=["fear", "anger", "happiness"]).faces[0].probabilities
    assert one == pytest.approx(two)


@pytest.mark.parametrize("labels", [["one"], [], ["a", "a"], ["a", " "], ["a ", "a"]])
def test_too_few_or_equal_labels_are_refused(labels):
    with pytest.raises(UsageError, match="at least two different words"):
        check_labels(labels)


def test_prompt_id_changes_with_any_word(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("templates: ['a {} face']\nwords: {bored: [bored, dull]}\n")
    mine = load_label_prompts(path)
    assert mine.texts("bored") == ["a bored face", "a dull face"] and mine.texts("wide_awake") == ["a wide awake face"]
    path.write_text("templates: ['a {} face']\nwords: {bored: [bored, tired]}\n")
    assert load_label_prompts(path).id != mine.id != load_label_prompts().id
    described = load_label_prompts(descriptors=True)
    assert len(described.texts("happiness")) > len(load_label_prompts().texts("happiness"))


@pytest.mark.parametrize(
    "text", ["[]", "templates: []", "templates: ['no place']\nwords: {}", "templates: 3", "a: [", "words: {a: [b]}"]
)
def test_prompt_files_that_make_no_sense_are_one_clear_error(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="broken.yaml"):
        load_label_prompts(path)


def test_text_cache_serves_only_the_very_texts_and_survives_damage(mini, tmp_path):
    cache, encoder = TextCache(tmp_path), mini.reader.zeroshot.encoder
    first = cache.prototype(encoder, ["a bored face"])
    assert len(list(tmp_path.iterdir())) == 1
    entry = next(tmp_path.iterdir())
    np.save(entry, np.zeros(3))
    assert np.array_equal(cache.prototype(encoder, ["a bored face"]), np.zeros(3))  # it was read
    entry.write_bytes(b"torn")
    np.testing.assert_array_equal(cache.prototype(encoder, ["a bored face"]), first)  # and made again
    assert not np.allclose(cache.prototype(encoder, ["a tired face"]), first)


def write_head(path, weight, key="mlp.weight"):
    torch.save({key: torch.from_numpy(weight)}, path)


def test_exp_clip_head_is_applied_to_both_sides_before_they_are_normalised(b16, tmp_path):
    """score = logit scale x cosine(W image, W text), computed here by hand from the encoder's own embeddings."""
    weight = np.random.default_rng(0).normal(0, 0.02, (4096, 512)).astype(np.float32)
    write_head(tmp_path / "ExpCLIP_B16_model.pth", weight)
    zeroshot = ZeroShot(b16, load_label_prompts(), TextCache(tmp_path / "cache")).with_projection(
        tmp_path / "ExpCLIP_B16_model.pth"
    )
    crops = [Image.effect_noise((80, 80), 60).convert("RGB"), Image.new("RGB", (50, 70), (200, 90, 40))]
    features = b16.encode_faces(crops)
    texts = [b16.encode_texts(load_label_prompts().texts(label)).mean(axis=0) for label in ("happiness", "anger")]
    image, text = features.embedding @ weight.T, np.stack([t / np.linalg.norm(t) for t in texts]) @ weight.T
    cosine = (image / np.linalg.norm(image, axis=1, keepdims=True)) @ (
        text / np.linalg.norm(text, axis=1, keepdims=True)
    ).T
    np.testing.assert_allclose(zeroshot.logits(features, ("happiness", "anger")), b16.logit_scale * cosine, rtol=1e-4)


def test_clips_own_normalisation_is_applied(b16):
    """Exp-CLIP's code left it out. A picture in CLIP's mean colour becomes zeros; open_clip's own transform agrees."""
    from open_clip import image_transform
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    crop = Image.effect_noise((224, 224), 80).convert("RGB")
    theirs = image_transform(224, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD)(crop)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(b16._clip.encode_image(theirs[None]), dim=1).numpy()
    np.testing.assert_allclose(b16.encode_faces([crop]).embedding, expected, atol=1e-4)


def test_published_head_becomes_safetensors(tmp_path):
    weight = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    write_head(tmp_path / "head.pth", weight, key="module.mlp.weight")
    convert_projection(tmp_path / "head.pth", tmp_path / "head.safetensors")
    for path in ("head.pth", "head.safetensors"):
        np.testing.assert_array_equal(load_projection(tmp_path / path, 8).weight, weight)


def test_heads_that_do_not_fit_say_why(tmp_path):
    write_head(tmp_path / "l14.pth", np.zeros((4096, 768), np.float32))
    with pytest.raises(EmoreasonError, match="768 dimensions and the model gives 512"):
        load_projection(tmp_path / "l14.pth", 512)
    write_head(tmp_path / "other.pth", np.zeros((4, 4), np.float32), key="proj")
    with pytest.raises(EmoreasonError, match="no Exp-CLIP head"):
        load_projection(tmp_path / "other.pth", 4)
    with pytest.raises(EmoreasonError, match="cannot be read as weights"):
        load_projection(tmp_path / "nothing.pth", 4)


class Payload:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a weights file was run')",))


def test_code_in_a_weights_file_is_never_run(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"mlp.weight": Payload()}))
    torch.save({"mlp.weight": Payload()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(EmoreasonError, match="cannot be read as weights"):
            load_projection(tmp_path / name, 4)


def test_projection_gives_unit_vectors():
    out = Projection(np.random.default_rng(2).normal(size=(5, 3)))(np.eye(3))
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1)
