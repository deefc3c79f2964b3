"""Training text in the plain `messages` + `images` layout that TRL, LLaMA-Factory and ms-swift read, one JSON a line.

`read` takes the layouts of others as well: ExpLLM's list of described faces, LLaVA's and ShareGPT's conversations.
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
    """Whether the file holds conversations about pictures and not a table. Only its first entry is looked at."""
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson") or not path.is_file():
        return False
    try:
        return bool(next(read(path), None))
    except EmoreasonError:
        return False


def samples(path: Path, split: str | None = None) -> Iterator[Sample]:
    """The pictures, each with what is said of it: what a check looks at. None has a split."""
    for talk in read(path):
        said = next((message.content for message in talk.messages if message.role == "assistant"), None)
        for image in talk.images:
            yield Sample(image, str(path.parent / image), source="messages", explanation=said)


def read(path: str | Path) -> Iterator[Conversation]:
    """The conversations of a JSONL file or of a JSON list; what is none is an error that says where and why."""
    path = Path(path)
    if not path.is_file():
        raise EmoreasonError(f"no file {path}: make one with `emoreason data describe DATA -o FOLDER`")
    for where, given in _entries(path):
        try:
            yield _conversation(given, path)
        except EmoreasonError as error:
            raise EmoreasonError(f"{where}: {error}") from None


def write(conversations: Iterable[Conversation], path: str | Path) -> int:
    """Write them all, or nothing: the file appears when it is whole."""
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
    """What the file holds, with the place of each for messages."""
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
                        raise EmoreasonError(f"{where}: no JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise EmoreasonError(f"{path} is no UTF-8 text ({error.reason})") from None
    except ValueError as error:
        raise EmoreasonError(f"{path}: a JSON list was expected ({error})") from None


# ---- layouts --------------------------------------------------------------------------------------------------------


def _conversation(given: Any, path: Path) -> Conversation:
    if not isinstance(given, Mapping):
        raise EmoreasonError(f"a JSON object was expected, this is {type(given).__name__}")
    for keys, importer in _LAYOUTS:
        if keys <= given.keys():
            return importer(given, path)
    known = ", ".join(" + ".join(sorted(keys)) for keys, _ in _LAYOUTS)
    raise EmoreasonError(
        f"unknown layout with the keys {', '.join(map(str, given)) or '(none)'}; known are: {known} "
        "(messages; LLaVA or ShareGPT; ExpLLM)"
    )


def _from_messages(given: Mapping[str, Any], path: Path) -> Conversation:
    """Ours, TRL's, ms-swift's and LLaMA-Factory's: role and content, the content a text or a list of parts."""
    turns = _list(given["messages"], "messages")
    messages = [(_text(turn, "role"), _content(turn)) for turn in turns]
    provenance = _object(given.get("provenance"), "provenance") or {}
    return _assembled(messages, given, _object(given.get("evidence"), "evidence"), provenance)


def _from_conversations(given: Mapping[str, Any], path: Path) -> Conversation:
    """LLaVA (`image`) and ShareGPT (`images`): from and value; a system text as a turn or beside them."""
    messages = [(_text(turn, "from"), _text(turn, "value")) for turn in _list(given["conversations"], "conversations")]
    if given.get("system"):
        messages.insert(0, ("system", _text(given, "system")))
    layout = "LLaVA" if "image" in given else "ShareGPT"
    provenance = {"layout": layout, "file": path.name} | ({"id": given["id"]} if "id" in given else {})
    return _assembled(messages, given, None, provenance)


def _from_expllm(given: Mapping[str, Any], path: Path) -> Conversation:
    """A face with its label `emo`, 24 predicted movements `au` and, in some files, a `description`.

    The movements are those of FEAFA, on a scale of their own: they are kept under a name of their own."""
    label = _text(given, "emo")
    described = isinstance(given.get("description"), str) and given["description"].strip()
    question, answer = (EXPLLM_QUESTION, given["description"]) if described else (EXPLLM_LABEL_QUESTION, label)
    messages = (Message("user", f"{IMAGE}\n{question}"), Message("assistant", answer))
    provenance = {"layout": "ExpLLM", "file": path.name, "label": label}
    provenance |= {"true_label": given["gt_emo"]} if given.get("gt_emo") else {}
    evidence = {"feafa": given["au"]} if given.get("au") else None
    return Conversation(messages, (_text(given, "file_name"),), evidence, provenance)


_LAYOUTS: tuple[tuple[set[str], Callable[[Mapping[str, Any], Path], Conversation]], ...] = (
    ({"messages"}, _from_messages),
    ({"conversations"}, _from_conversations),
    ({"file_name", "emo"}, _from_expllm),
)


def _assembled(
    turns: list[tuple[str, str]], given: Mapping[str, Any], evidence: dict[str, Any] | None, provenance: dict[str, Any]
) -> Conversation:
    """Roles by their names here; pictures without any mark are put before the first question."""
    images = _images(given)
    messages = [Message(_SPEAKERS.get(role, role), content) for role, content in turns]
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if images and first is not None and not any(IMAGE in message.content for message in messages):
        messages[first] = Message("user", f"{IMAGE}\n" * len(images) + messages[first].content)
    return Conversation(tuple(messages), images, evidence, provenance)


def _images(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths under `images` or `image`, each a text or an object with a path."""
    cell = given.get("images") or given.get("image") or []
    found = []
    for entry in cell if isinstance(cell, list) else [cell]:
        path = entry.get("path") if isinstance(entry, Mapping) else entry
        if not isinstance(path, str) or not path:
            raise EmoreasonError(f"a picture is {str(entry)[:60]!r}: expected the path of a file")
        found.append(path)
    return tuple(found)


def _content(turn: Any) -> str:
    """A text, or the typed parts of TRL: {"type": "image"} and {"type": "text", "text": …}."""
    content = turn.get("content") if isinstance(turn, Mapping) else None
    if not isinstance(content, list):
        return _text(turn, "content")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("image", "text"):
            raise EmoreasonError(f"a part of a message is {str(part)[:60]!r}: expected one of type image or text")
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
