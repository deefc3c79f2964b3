"""Training text: our layout, and those of ExpLLM, LLaVA, ShareGPT and TRL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.data.messages import read, write

ASKED, SAID = Message("user", f"{IMAGE}\nWhat is seen?"), Message("assistant", "The brows are lowered.")


def saved(path: Path, *entries: object, as_list: bool = False) -> Path:
    lines = json.dumps(entries, indent=1) if as_list else "\n".join(map(json.dumps, entries))
    path.write_text(lines, encoding="utf-8")
    return path


def test_a_conversation_survives_writing_and_reading(tmp_path):
    path = tmp_path / "new" / "train.jsonl"
    conversations = [
        Conversation((ASKED, SAID), ("a.png",), {"units": {"4": 0.7}}, {"writer": "built-in"}),
        Conversation((Message("system", "Be brief."), Message("user", "\nWhy?"), Message("assistant", "Übung „x“"))),
    ]
    assert write(conversations, path) == 2
    assert list(read(path)) == conversations
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0]).keys() == {
        "messages", "images", "evidence", "provenance"
    }  # fmt: skip


TEXT = st.text(max_size=30).filter(lambda text: IMAGE not in text)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.integers(0, 2))
def test_any_text_survives(tmp_path_factory, turns, pictures):
    messages = [m for asked, said in turns for m in (Message("user", asked), Message("assistant", said))]
    messages[0] = Message("user", IMAGE * pictures + messages[0].content)
    conversation = Conversation(tuple(messages), tuple(f"{n}.png" for n in range(pictures)))
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    write([conversation], path)
    assert list(read(path)) == [conversation]


def test_a_run_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "train.jsonl"
    write([Conversation((ASKED, SAID), ("a.png",))], path)

    def broken():
        yield Conversation((ASKED, SAID), ("b.png",))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write(broken(), path)
    assert [c.images for c in read(path)] == [("a.png",)]
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize("as_list", [True, False])
def test_expllm(tmp_path, as_list):
    entry = {"file_name": "test_0001.jpg", "emo": "Sadness", "au": [0.0] * 23 + [0.2]}
    described = entry | {"description": "**Key Observations:** The left brow …", "gt_emo": "Anger"}
    first, second = read(saved(tmp_path / "faces.json", described, entry, as_list=as_list))
    assert first.images == ("test_0001.jpg",)
    assert first.messages[0].content.startswith(f"{IMAGE}\n")
    assert first.messages[1].content == "**Key Observations:** The left brow …"
    assert first.provenance == {
        "layout": "ExpLLM", "file": "faces.json", "label": "Sadness", "true_label": "Anger"
    }  # fmt: skip
    assert first.evidence == {"feafa": entry["au"]}
    assert second.messages[1].content == "Sadness"


def test_llava(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat is seen?"}, {"from": "gpt", "value": "The brows are lowered."}]
    entry = {"id": "7", "image": "faces/a.jpg", "conversations": turns}
    (found,) = read(saved(tmp_path / "llava.json", entry, as_list=True))
    assert found.messages == (ASKED, SAID) and found.images == ("faces/a.jpg",)
    assert found.provenance == {"layout": "LLaVA", "file": "llava.json", "id": "7"}


def test_sharegpt(tmp_path):
    turns = [{"from": "human", "value": "What is seen?"}, {"from": "gpt", "value": "The brows are lowered."}]
    entry = {"conversations": turns, "images": ["a.jpg"], "system": "Be brief."}
    (found,) = read(saved(tmp_path / "sharegpt.json", entry, as_list=True))
    assert found.messages == (Message("system", "Be brief."), ASKED, SAID)
    assert found.images == ("a.jpg",), "a picture without a mark comes before the first question"


def test_typed_parts(tmp_path):
    parts = [{"type": "image"}, {"type": "text", "text": "What is seen?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "The brows are lowered."}]
    entry = {"messages": messages, "images": [{"path": "a.jpg", "bytes": None}]}
    (found,) = read(saved(tmp_path / "trl.jsonl", entry))
    assert found.messages == (ASKED, SAID) and found.images == ("a.jpg",)


USER, ASSISTANT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"prompt": "a", "answer": "b"}, "unknown layout with the keys prompt, answer; expected: messages"),
        ({"messages": [USER]}, "the turns are user: expected user and assistant in turn"),
        ({"messages": [ASSISTANT, USER]}, "the turns are assistant, user"),
        ({"messages": []}, "no message"),
        ({"messages": "hello"}, "'messages' is 'hello': expected a list"),
        (
            {"messages": [USER, {"role": "robot", "content": "So."}]},
            "role 'robot' is not one of system, user, assistant",
        ),
        ({"messages": [USER, {"role": "assistant", "content": 7}]}, "'content' is '7': expected a text"),
        ({"messages": [USER, "So."]}, "a message is 'So.'"),
        ({"messages": [{"role": "user", "content": "<image>"}, ASSISTANT]}, "1 mark(s) <image> for 0 picture(s)"),
        ({"messages": [USER, ASSISTANT], "images": [3]}, "a picture is '3': expected the path of a file"),
        ({"messages": [USER, ASSISTANT], "evidence": "x"}, "'evidence' is 'x': expected an object"),
        ({"conversations": [{"from": "human"}]}, "'value' is 'None': expected a text"),
        ({"file_name": "a.jpg", "emo": 3}, "'emo' is '3': expected a text"),
        (["a"], "expected a JSON object, got list"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, entry, said):
    good = {"messages": [USER, ASSISTANT]}
    path = saved(tmp_path / "mixed.jsonl", good, entry)
    with pytest.raises(EmoreasonError) as error:
        list(read(path))
    assert str(error.value).startswith(f"{path}, line 2: ") and said in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(EmoreasonError, match="no file .*describe"):
        list(read(tmp_path / "none.jsonl"))
    for name, content, said in (
        ("broken.jsonl", b'{"messages": [\n', "broken.jsonl, line 1: not valid JSON"),
        ("broken.json", b'[{"messages": [', "broken.json: expected a JSON list"),
        ("latin.jsonl", b'{"messages": "\xe9"}', "not UTF-8 text"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EmoreasonError, match=said):
            list(read(tmp_path / name))
    (tmp_path / "list.json").write_text('[{"a": 1}]')
    with pytest.raises(EmoreasonError, match="list.json, entry 1: unknown layout"):
        list(read(tmp_path / "list.json"))
    (tmp_path / "empty.jsonl").write_text("\n")
    assert list(read(tmp_path / "empty.jsonl")) == []
