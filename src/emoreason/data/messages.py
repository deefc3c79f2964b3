"""Reads and writes training text: JSONL with `messages` and `images`, the layout of TRL, LLaMA-Factory and ms-swift.

`read` also takes other layouts: ExpLLM's list of described faces, LLaVA's and ShareGPT's conversations.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import IMAGE, ROLES, Conversation, Message
from emoreason.data.schema import Sample

_SPEAKERS = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"} | {r: r for r in ROLES}
EXPLLM_QUESTION = "Describe the facial expression step by step."
EXPLLM_LABEL_QUESTION = "What is the facial expression? Answer with its label."


def matches(path: Path) -> bool:
    """Whether the file holds conversations about pictures, not a table. Only reads its first entry."""
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson") or not path.is_file():
        return False
    try:
        return bool(next(read(path), None))
    except EmoreasonError:
        return False


def samples(path: Path, split: str | None = None) -> Iterator[Sample]:
    """The pictures with their first answer as explanation, for data checks. They have no split."""
    for conversation in read(path):
        answers = (message.content for message in conversation.messages if message.role == "assistant")
        answer = next(answers, None)
        for image in conversation.images:
            yield Sample(image, str(path.parent / image), source="messages", explanation=answer)


def read(path: str | Path) -> Iterator[Conversation]:
    """The conversations of a JSONL file or a JSON list. The error for an invalid entry says where it is and why."""
    path = Path(path)
    if not path.is_file():
        raise EmoreasonError(f"no file {path}: make one with `emoreason data describe DATA -o FOLDER`")
    for where, entry in _entries(path):
        try:
            yield _conversation(entry, path)
        except EmoreasonError as error:
            raise EmoreasonError(f"{where}: {error}") from None


def write(conversations: Iterable[Conversation], path: str | Path) -> int:
    """Write all conversations and return their number. The file only appears once it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, n = path.with_name(path.name + ".tmp"), 0
    try:
        with fresh.open("w", encoding="utf-8", newline="\n") as file:
            for conversation in conversations:
                file.write(json.dumps(conversation.to_dict(), ensure_ascii=False) + "\n")
                n += 1
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return n


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Each entry of the file with its place, for error messages."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            if first.lstrip().startswith("["):
                yield from ((f"{path}, entry {n}", entry) for n, entry in enumerate(json.load(file), 1))
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    try:
                        yield where, json.loads(line)
                    except ValueError as error:
                        raise EmoreasonError(f"{where}: not valid JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise EmoreasonError(f"{path} is not UTF-8 text ({error.reason})") from None
    except ValueError as error:
        raise EmoreasonError(f"{path}: expected a JSON list ({error})") from None


# ---- layouts --------------------------------------------------------------------------------------------------------


def _conversation(entry: Any, path: Path) -> Conversation:
    if not isinstance(entry, Mapping):
        raise EmoreasonError(f"expected a JSON object, got {type(entry).__name__}")
    for keys, importer in _LAYOUTS:
        if keys <= entry.keys():
            return importer(entry, path)
    known = ", ".join(" + ".join(sorted(keys)) for keys, _ in _LAYOUTS)
    raise EmoreasonError(
        f"unknown layout with the keys {', '.join(map(str, entry)) or '(none)'}; expected: {known} "
        "(messages; LLaVA or ShareGPT; ExpLLM)"
    )


def _from_messages(entry: Mapping[str, Any], path: Path) -> Conversation:
    """Our layout, also TRL's, ms-swift's and LLaMA-Factory's: role and content, which is a text or a list of parts."""
    turns = _list(entry["messages"], "messages")
    messages = [(_text(turn, "role"), _content(turn)) for turn in turns]
    provenance = _object(entry.get("provenance"), "provenance") or {}
    return _assembled(messages, entry, _object(entry.get("evidence"), "evidence"), provenance)


def _from_conversations(entry: Mapping[str, Any], path: Path) -> Conversation:
    """LLaVA (`image`) and ShareGPT (`images`): turns of from and value. A system text is a turn or a key of its own."""
    messages = [(_text(turn, "from"), _text(turn, "value")) for turn in _list(entry["conversations"], "conversations")]
    if entry.get("system"):
        messages.insert(0, ("system", _text(entry, "system")))
    layout = "LLaVA" if "image" in entry else "ShareGPT"
    provenance = {"layout": layout, "file": path.name} | ({"id": entry["id"]} if "id" in entry else {})
    return _assembled(messages, entry, None, provenance)


def _from_expllm(entry: Mapping[str, Any], path: Path) -> Conversation:
    """A face with its label `emo`, 24 predicted movements `au` and, in some files, a `description`.

    The movements are those of FEAFA, which has its own scale, so they go under the key `feafa`."""
    label = _text(entry, "emo")
    described = isinstance(entry.get("description"), str) and entry["description"].strip()
    question, answer = (EXPLLM_QUESTION, entry["description"]) if described else (EXPLLM_LABEL_QUESTION, label)
    messages = (Message("user", f"{IMAGE}\n{question}"), Message("assistant", answer))
    provenance = {"layout": "ExpLLM", "file": path.name, "label": label}
    provenance |= {"true_label": entry["gt_emo"]} if entry.get("gt_emo") else {}
    evidence = {"feafa": entry["au"]} if entry.get("au") else None
    return Conversation(messages, (_text(entry, "file_name"),), evidence, provenance)


_LAYOUTS: tuple[tuple[set[str], Callable[[Mapping[str, Any], Path], Conversation]], ...] = (
    ({"messages"}, _from_messages),
    ({"conversations"}, _from_conversations),
    ({"file_name", "emo"}, _from_expllm),
)


def _assembled(
    turns: list[tuple[str, str]], entry: Mapping[str, Any], evidence: dict[str, Any] | None, provenance: dict[str, Any]
) -> Conversation:
    """The conversation with our names of the roles. If no turn marks the pictures, they go to the first question."""
    images = _images(entry)
    messages = [Message(_SPEAKERS.get(role, role), content) for role, content in turns]
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if images and first is not None and not any(IMAGE in message.content for message in messages):
        messages[first] = Message("user", f"{IMAGE}\n" * len(images) + messages[first].content)
    return Conversation(tuple(messages), images, evidence, provenance)


def _images(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths under `images` or `image`, each a text or an object with a path."""
    images = entry.get("images") or entry.get("image") or []
    paths = []
    for image in images if isinstance(images, list) else [images]:
        path = image.get("path") if isinstance(image, Mapping) else image
        if not isinstance(path, str) or not path:
            raise EmoreasonError(f"a picture is {str(image)[:60]!r}: expected the path of a file")
        paths.append(path)
    return tuple(paths)


def _content(turn: Any) -> str:
    """The text of a turn. TRL writes typed parts instead: {"type": "image"} and {"type": "text", "text": …}."""
    content = turn.get("content") if isinstance(turn, Mapping) else None
    if not isinstance(content, list):
        return _text(turn, "content")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("image", "text"):
            raise EmoreasonError(f"a part of a message is {str(part)[:60]!r}: expected type image or text")
        parts.append(IMAGE + "\n" if kind == "image" else _text(part, "text"))
    return "".join(parts)


def _text(given: Any, key: str) -> str:
    if not isinstance(given, Mapping):
        raise EmoreasonError(f"a message is {str(given)[:60]!r}: expected an object with {key!r}")
    if not isinstance(given.get(key), str):
        raise EmoreasonError(f"{key!r} is {str(given.get(key))[:60]!r}: expected a text")
    return given[key]


def _list(given: Any, key: str) -> list[Any]:
    if not isinstance(given, list):
        raise EmoreasonError(f"{key!r} is {str(given)[:60]!r}: expected a list")
    return given


def _object(given: Any, key: str) -> dict[str, Any] | None:
    if given is not None and not isinstance(given, dict):
        raise EmoreasonError(f"{key!r} is {str(given)[:60]!r}: expected an object")
    return given
