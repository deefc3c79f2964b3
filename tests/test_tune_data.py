"""Fine-tuning's data: targets, labels, parts. No model: features are made up."""

import numpy as np
import pytest

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.duplicates import Fingerprint
from emoreason.data.schema import Sample
from emoreason.train.features import PictureFeatures
from emoreason.train.finetune_config import FinetuneConfig, FinetuneData
from emoreason.train.labeled_faces import group_numbers, select_faces, target_of
from emoreason.train.report import data_summary
from emoreason.train.splits import make_splits, share_of


def seen(seed: int) -> PictureFeatures:
    rng = np.random.default_rng(seed)
    key = rng.bytes(32).hex()
    return PictureFeatures(Fingerprint(key, int(key[:16], 16), rng.bytes(256)), rng.normal(size=8).astype(np.float32))


def entries(counts: dict[str, int], **more) -> list:
    names = [label for label, n in counts.items() for _ in range(n)]
    return [(Sample(f"{i}.png", f"{i}.png", label, word=label, **more), seen(i)) for i, label in enumerate(names)]


def test_targets_are_shares():
    assert target_of(Sample("a", "a", "fear")) == {"fear": 1.0}
    assert target_of(Sample("a", "a", None, {"fear": 3, "anger": 1, "disgust": 0})) == {"fear": 0.75, "anger": 0.25}
    assert target_of(Sample("a", "a", None)) is None
    votes = {"neutral": 6, "happiness": 1, "unknown": 1}
    assert target_of(Sample("a", "a", None, votes, source="ferplus"))["neutral"] == 1.0  # single votes are noise
    assert target_of(Sample("a", "a", None, {"neutral": 2, "unknown": 8}, source="ferplus")) is None


def test_every_label_is_on_every_side_and_nothing_is_lost():
    faces = select_faces(entries({"happiness": 50, "boredom": 8, "fear": 4}), FinetuneData(source="x"))
    parts = make_splits(faces, 0.2, 0.1, seed=3)
    every = np.concatenate(list(parts.named().values()))
    assert sorted(every) == list(range(62))
    for rows in parts.named().values():
        assert all(faces.counts(rows).values())
    assert faces.counts(parts.report) == {"happiness": 10, "fear": 1, "boredom": 2}


def test_parts_depend_on_the_seed_and_not_on_the_order():
    given = entries({"happiness": 30, "fear": 30})
    one, two = (select_faces(order, FinetuneData(source="x")) for order in (given, given[::-1]))
    chosen = [
        {faces.ids[row] for row in make_splits(faces, 0.2, 0.1, seed=seed).report}
        for faces, seed in ((one, 1), (two, 1), (one, 2))
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_no_person_and_no_copy_stands_on_two_sides():
    rng = np.random.default_rng(0)
    people = [f"p{rng.integers(15)}" for _ in range(120)]
    labels = rng.choice(["happiness", "fear", "boredom"], 120)
    given = [
        (Sample(f"{i}", f"{i}", str(labels[i]), groups={"Subject": people[i]}), seen(i if i < 110 else i - 110))
        for i in range(120)
    ]  # the last ten are copies of the first ten, of other persons
    faces = select_faces(given, FinetuneData(source="x"))
    assert faces.subject == "Subject"
    parts = make_splits(faces, 0.3, 0.2, seed=0)
    sides = [({people[row] for row in rows}, {faces.keys[row] for row in rows}) for rows in parts.named().values()]
    for a in range(3):
        for b in range(a):
            assert not sides[a][0] & sides[b][0] and not sides[a][1] & sides[b][1]


def test_people_and_copies_chain():
    assert group_numbers(["a", "b", "a", None, None], [[1, 3]]).tolist() == [0, 1, 0, 1, 4]


def test_a_share_is_about_what_was_asked_for():
    faces = select_faces(entries({"happiness": 500, "fear": 100}), FinetuneData(source="x"))
    assert faces.counts(share_of(faces, np.arange(600), 0.1, 0)) == {"happiness": 50, "fear": 10}
    assert len(share_of(faces, np.arange(600), 0.5, 0, max_faces=60)) == 60


def test_own_splits_are_kept_and_copies_leave_train():
    train = entries({"happiness": 20, "fear": 20}, split="train")
    report = [
        (Sample("v0", "v0", "fear", split="validation"), seen(30)),
        (Sample("v1", "v1", "happiness", split="validation"), seen(99)),
    ]
    test = [(Sample("t0", "t0", "fear", split="test"), seen(31))]
    faces = select_faces(train + report + test, FinetuneData(source="x"))
    parts = make_splits(faces, 0.2, 0.1, seed=0)
    assert {faces.ids[row] for row in parts.report} == {"v0", "v1"} and parts.report_name == "validation"
    used = {faces.ids[row] for row in np.concatenate([parts.train, parts.holdout])}
    assert "30.png" not in used and "31.png" not in used and parts.removed == 2 and parts.untouched == {"test": 1}


def test_labels_keep_the_words_of_the_user():
    config = FinetuneData(source="x", labels="engaged, bored")
    faces = select_faces(entries({"interest": 5, "boredom": 5, "fear": 5}), config)
    assert faces.labels == ("engaged", "bored") and len(faces) == 10 and faces.left_out == {"another label": 5}
    assert set(faces.label[:5]) == {0}


@pytest.mark.parametrize(
    ("given", "labels", "error", "told"),
    [
        ({"fear": 9}, "", EmoreasonError, "second one"),
        ({}, "", EmoreasonError, "no labels"),
        ({"fear": 20, "smirkish": 1, "smirkishh": 9}, "", EmoreasonError, "look like one"),
        ({"fear": 20, "Smug": 4, "smug": 9}, "", EmoreasonError, "'Smug' .4 faces. and 'smug' .9. look like one"),
        ({"fear": 20, "very_sly": 4, "Very sly": 9}, "", EmoreasonError, "look like one"),
        ({"fear": 20, "happiness": 3}, "", EmoreasonError, "too few faces of happiness"),
        ({"fear": 20, "happiness": 9, "pride": 2}, "", EmoreasonError, "--labels happiness,fear"),
        ({"fear": 9, "pride": 9}, "fear,prode", UsageError, "'prode'; the data has pride"),
        ({"fear": 9, "pride": 9}, "fear", UsageError, "two labels"),
        ({"interest": 9, "pride": 9}, "interest,engaged", UsageError, "two labels"),
    ],
)
def test_what_cannot_work_is_refused(given, labels, error, told):
    rows = entries(given) or [(Sample("a", "a"), seen(0))]
    with pytest.raises(error, match=told):
        make_splits(select_faces(rows, FinetuneData(source="x", labels=labels)), 0.2, 0.1, seed=0)


def test_a_slip_in_a_word_of_the_users_is_asked_about():
    """frustrated is a word for frustration, which frustated does not look like."""
    given = entries({"fear": 9}) + [
        (Sample(f"{i}", f"{i}", "frustration", word="Frustrated"), seen(i)) for i in (20, 21)
    ]
    given += [(Sample("s", "s", "frustated", word="frustated"), seen(22))]
    with pytest.raises(EmoreasonError, match="'frustated' .1 faces. and 'frustrated' .2. look like one"):
        select_faces(given, FinetuneData(source="x"))
    with pytest.raises(UsageError, match="'frustrted'; the data has frustrated, frustated"):
        select_faces(given, FinetuneData(source="x", labels="fear,frustrted"))
    opposites = entries({"attentive": 5, "inattentive": 5, "satisfied": 5, "dissatisfied": 5})
    assert select_faces(opposites, FinetuneData(source="x")).labels == (
        "attentive",
        "dissatisfied",
        "inattentive",
        "satisfied",
    )
    levels = select_faces(entries({"pain level 1": 5, "pain level 2": 5}), FinetuneData(source="x"))
    assert levels.labels[1] == "pain level 2"


def test_copies_are_named_where_they_are_why_a_label_is_too_small():
    same = seen(1)
    given = [(Sample(f"{i}", f"{i}", ("fear", "pride")[i % 2]), same) for i in range(20)]
    with pytest.raises(
        EmoreasonError, match=r"few faces of fear .*after the split .copies of a picture stay together. a"
    ):
        make_splits(select_faces(given, FinetuneData(source="x")), 0.2, 0.1, 7)


def test_two_persons_are_too_few_and_told_so():
    given = [
        (Sample(f"{i}", f"{i}", ("fear", "pride")[i % 2], groups={"person": "ab"[i // 20]}), seen(i)) for i in range(40)
    ]
    with pytest.raises(EmoreasonError, match="persons stay together: column person, 2 of them"):
        make_splits(select_faces(given, FinetuneData(source="x")), 0.2, 0.1, 7)


def test_shares_without_a_label_keep_the_words_of_the_user():
    shares = ({"interest": 0.8, "boredom": 0.2}, {"interest": 0.3, "boredom": 0.7})
    given = [(Sample(f"{i}", f"{i}", None, shares[i % 2], word=("engaged", "bored")[i % 2]), seen(i)) for i in range(9)]
    assert select_faces(given, FinetuneData(source="x")).labels == ("bored", "engaged")


def test_pictures_that_are_all_missing_are_told_as_such():
    with pytest.raises(EmoreasonError, match="none of its 2 pictures can be read; the first: 'a' is not there. Paths"):
        missing = [(Sample(name, name, "fear"), f"{name!r} is not there") for name in "ab"]
        select_faces(missing, FinetuneData(source="x"))


def test_unusable_pictures_are_counted():
    given = entries({"fear": 5, "pride": 5})
    given += [
        (Sample("b", "b", "fear"), "cut off"),
        (Sample("n", "n", "fear"), PictureFeatures(seen(70).fingerprint, None)),
        (Sample("u", "u"), seen(71)),
    ]
    assert select_faces(given, FinetuneData(source="x")).left_out == {
        "broken or missing": 1,
        "no face found": 1,
        "no label": 1,
    }


def test_frames_of_one_film_do_not_swallow_the_data():
    """Fifty pictures that look nearly the same are told and split, six are kept together."""

    def entry(i: int, film: int):
        rng = np.random.default_rng(film)
        look, bits = rng.bytes(256), int(rng.integers(1 << 62))
        print_ = Fingerprint(np.random.default_rng(1000 + i).bytes(32).hex(), bits, look)
        return Sample(f"{i}", f"{i}", ("fear", "happiness")[i % 2]), PictureFeatures(print_, np.ones(4, np.float32))

    one_film = select_faces([entry(i, 0) for i in range(50)], FinetuneData(source="x"))
    assert one_film.near_copies == 50 and len(set(one_film.group)) == 50
    several = select_faces([entry(i, i // 6) for i in range(66)], FinetuneData(source="x"))
    assert several.near_copies == 0 and len(set(several.group)) == 11


def test_crops_that_the_detector_does_not_know_are_helped_with():
    given = [
        (Sample(f"{i}", f"{i}", ("fear", "happiness")[i % 2]), PictureFeatures(seen(i).fingerprint, None))
        for i in range(9)
    ]
    with pytest.raises(EmoreasonError, match="9 no face found.*--no-detect"):
        select_faces(given, FinetuneData(source="x"))
    some = select_faces(given + entries({"fear": 9}), FinetuneData(source="x"))
    with pytest.raises(EmoreasonError, match="few faces of happiness .*In 9 pictures no face was found: --no-detect"):
        make_splits(some, 0.2, 0.1, 7)


def test_a_folder_that_was_read_as_a_table_is_told_so(tmp_path):
    for source, told in (("table", True), ("imagefolder", False)):
        lines = data_summary(
            [(Sample("a", "a", "fear", source=source), seen(0))], FinetuneConfig(data=FinetuneData(str(tmp_path)))
        )
        assert ("listed by a table in the folder" in lines[0]) is told


def test_a_single_point_is_seen_in_the_picture_of_losses():
    import io

    from PIL import Image

    from emoreason.train.curve import draw

    with Image.open(
        io.BytesIO(draw({"train": [(1, 0.3)], "held out": [(0, 0.2), (1, 0.1)]}, "step", "loss"))
    ) as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    blue = sum(n for n, colour in colours if colour == (0, 0x72, 0xB2))
    legend = 80  # its line alone has 64 pixels
    assert blue > legend
