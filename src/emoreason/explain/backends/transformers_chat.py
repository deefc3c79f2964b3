"""Transformers chat models: text-only ones, which read the evidence sheet, and ones that also see the picture."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.core.messages import Message
from emoreason.explain.backends import chat_prompts
from emoreason.explain.backends.chat_sections import until
from emoreason.explain.explanation import Style
from emoreason.models.bundle import PACKAGE_PREFIX

MAX_TOKENS = 160  # per text: the checks allow 80 words
TURN_OPENINGS = ("\nUser:", "\nAssistant:")  # without a chat template, a model would go on for the other side


class _Local:
    """Shared code of both kinds: text comes from `generate`, scores from one cache of the conversation."""

    sees = False

    def __init__(self, model: Any, tokenizer: Any, most_tokens: int = MAX_TOKENS):
        self.model, self.tokenizer, self.most_tokens = model, tokenizer, most_tokens

    def prepare(self, messages: Sequence[Message], images: Sequence[Image.Image]) -> dict[str, Any]:
        """The model's inputs, up to the point where its answer begins."""
        raise NotImplementedError

    @property
    def templated(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def complete(
        self, messages: Sequence[Message], images: Sequence[Image.Image] = (), style: Style = Style()
    ) -> Iterator[str]:
        pieces = self._generate(self.prepare(messages, images), style)
        return pieces if self.templated else until(pieces, TURN_OPENINGS)

    def _generate(self, inputs: dict[str, Any], style: Style) -> Iterator[str]:
        import torch
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop, failures = threading.Event(), []

        def halted(rows: Any, scores: Any, **_: Any) -> Any:
            return torch.full((rows.shape[0],), stop.is_set(), dtype=torch.bool, device=rows.device)

        def work() -> None:
            try:
                torch.manual_seed(style.variation)
                # greedy without a temperature: the same face gets the same text again
                self.model.generate(**inputs, streamer=streamer, max_new_tokens=self.most_tokens,
                                    do_sample=bool(style.temperature), temperature=style.temperature or None,
                                    top_p=None, top_k=None, stopping_criteria=[halted],
                                    pad_token_id=self._pad())  # fmt: skip
            except Exception as error:  # raised in the thread that reads the text
                failures.append(error)
                streamer.end()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            yield from (text for text in streamer if text)
        finally:
            stop.set()
            worker.join()
        if failures:
            raise EmoreasonError(f"the language model failed: {failures[0]}") from failures[0]

    def _pad(self) -> int | None:
        if self.tokenizer.pad_token_id is not None:
            return self.tokenizer.pad_token_id
        ends = self.model.generation_config.eos_token_id
        return ends[0] if isinstance(ends, list) else ends

    def score(
        self, messages: Sequence[Message], images: Sequence[Image.Image], options: Sequence[str]
    ) -> list[float] | None:
        """Reads the conversation once, then scores all options in one batch, each after a copy of its cache."""
        import torch

        from emoreason.models.cache import cache_argument, cache_of

        lead = "" if self.templated else " "  # the plain form ends with "Assistant:"
        rows = [self.tokenizer(lead + option, add_special_tokens=False)["input_ids"] for option in options]
        with torch.no_grad():
            outputs = self.model(**self.prepare(messages, images), use_cache=True, logits_to_keep=1)
            first = outputs.logits[0, -1].float().log_softmax(-1)
            scores = [first[row[0]].item() for row in rows]
            longest = max(map(len, rows))
            if longest > 1:
                cache = cache_of(outputs)
                cache.batch_repeat_interleave(len(rows))
                # padded at the end, so that the padding affects nothing
                padded = torch.tensor([row[:-1] + [row[0]] * (longest - len(row)) for row in rows])
                logits = self.model(input_ids=padded.to(first.device), **cache_argument(cache)).logits
                follow = logits.float().log_softmax(-1)
                for at, row in enumerate(rows):
                    scores[at] += sum(follow[at, n, token].item() for n, token in enumerate(row[1:]))
        return _without_longer(scores, rows)


def _without_longer(scores: list[float], rows: Sequence[Sequence[int]]) -> list[float]:
    """Subtract from each option the probability of longer options that start with it ("fear", "fearful")."""
    from math import exp, log

    result = []
    for score, row in zip(scores, rows, strict=True):
        longer = [
            s for s, other in zip(scores, rows, strict=True) if len(other) > len(row) and other[: len(row)] == row
        ]
        rest = 1 - sum(exp(s - score) for s in longer)
        result.append(score + log(max(rest, 1e-6)))
    return result


class TransformersChat(_Local):
    """A transformers causal language model that reads the evidence sheet."""

    @classmethod
    def load(cls, name: str, compute: Compute, quantize: str | None = None) -> "TransformersChat":
        from emoreason.models.cache import check_cache
        from emoreason.models.language import WholeTokenizer, load_language

        if name.startswith(PACKAGE_PREFIX):
            raise UsageError(
                f"{name} is a part of mini, not a chat model: give the hub name or folder of a transformers model"
            )
        low, dtype = _levels(quantize, compute)
        language = load_language(name, quantization=low, dtype=dtype)
        model = language.model if low is not None else language.model.to(compute.device)
        if quantize in ("half", "int8"):
            from emoreason.models.quantize import pack

            pack(model, "int8" if quantize == "int8" else "half")
        assert isinstance(language.tokenizer, WholeTokenizer)  # only mini has a reduced vocabulary
        check_cache(model)
        return cls(model, language.tokenizer.inner)

    def prepare(self, messages: Sequence[Message], images: Sequence[Image.Image]) -> dict[str, Any]:
        if not self.templated:
            inputs = self.tokenizer(chat_prompts.plain(messages), return_tensors="pt")
            return dict(inputs.to(self.model.device))

        def render(messages_: Sequence[Message]) -> Any:
            rows = [{"role": message.role, "content": message.content} for message in messages_]
            return self.tokenizer.apply_chat_template(
                rows, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True,
                enable_thinking=False,
            )  # fmt: skip

        return dict(_rendered(render, messages).to(self.model.device))


class ImageTextChat(_Local):
    """A transformers image-text-to-text model that reads the evidence sheet and sees the picture."""

    sees = True

    def __init__(self, model: Any, processor: Any, most_tokens: int = MAX_TOKENS):
        super().__init__(model, processor.tokenizer, most_tokens)
        self.processor = processor

    @classmethod
    def load(cls, name: str, compute: Compute, quantize: str | None = None) -> "ImageTextChat":
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from emoreason.models.cache import check_cache

        if quantize in ("half", "int8"):
            raise UsageError(
                f"--quantize {quantize} is for text models on a CPU; for vision:MODEL use 4bit or 8bit, on CUDA"
            )
        low, dtype = _levels(quantize, compute)
        try:
            processor = AutoProcessor.from_pretrained(name)
            model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, quantization_config=low)
        except (OSError, ValueError, ImportError) as error:
            raise EmoreasonError(
                f"the model {name} could not be loaded: {first_line(error)}. Give a folder or a hub name of a "
                "transformers image-text-to-text model"
            ) from None
        if not hasattr(processor, "tokenizer"):
            raise EmoreasonError(f"{name} has no processor for pictures; if it is a text-only model, use text:{name}")
        placed: Any = model if low is not None else model.to(compute.device)  # type: ignore[arg-type]
        placed = placed.eval().requires_grad_(False)
        check_cache(placed)
        return cls(placed, processor)

    @property
    def templated(self) -> bool:
        return bool(getattr(self.processor, "chat_template", None) or super().templated)

    def prepare(self, messages: Sequence[Message], images: Sequence[Image.Image]) -> dict[str, Any]:
        if not self.templated:
            raise EmoreasonError(
                "this model's processor has no chat template, which says where the pictures go: use another model"
            )

        def render(messages_: Sequence[Message]) -> str:
            rows = []
            placed = False
            for message in messages_:
                content: list[dict[str, str]] = [{"type": "text", "text": message.content}]
                if message.role == "user" and not placed:  # the pictures belong to the first user message
                    content, placed = [{"type": "image"}] * len(images) + content, True
                rows.append({"role": message.role, "content": content})
            return self.processor.apply_chat_template(rows, add_generation_prompt=True, tokenize=False)

        text = _rendered(render, messages)
        pictures = {"images": [[image.convert("RGB") for image in images]]} if images else {}
        bos = self.tokenizer.bos_token
        # some templates already write the start token, and the tokenizer would add a second one
        special = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        inputs = self.processor(text=[text], **pictures, **special, return_tensors="pt").to(self.model.device)
        return {k: v.to(self.model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}


def _rendered(render: Any, messages: Sequence[Message]) -> Any:
    """Apply the model's chat template. If it takes no system message, that text goes into the first question."""
    from jinja2.exceptions import TemplateError

    try:
        return render(messages)
    except TemplateError:
        system, first, *rest = messages
        return render([Message("user", f"{system.content}\n\n{first.content}"), *rest])


def _levels(quantize: str | None, compute: Compute) -> tuple[Any, Any]:
    """The bitsandbytes configuration, if requested, and the dtype of the other weights."""
    import torch

    from emoreason.models.quantize import bitsandbytes_config

    if quantize in ("4bit", "8bit"):
        return bitsandbytes_config(quantize, compute.torch_dtype), compute.torch_dtype
    if quantize in (None, "float32", "half", "int8"):
        return None, compute.torch_dtype if quantize is None else torch.float32
    raise UsageError(f"--quantize {quantize} is not one of float32, half, int8, 8bit, 4bit")
