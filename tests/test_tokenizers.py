"""Tokenizers that come as tokenizer.model only, as those of Llama 2, Vicuna and T5 do."""

import json

import pytest

from emoreason.models.language import WholeTokenizer


def test_a_sentencepiece_tokenizer_is_read(tmp_path):
    pytest.importorskip("sentencepiece")
    from sentencepiece import SentencePieceTrainer
    from transformers import AutoTokenizer

    words = tmp_path / "words.txt"
    words.write_text("".join(f"the face shows {word} {n}\n" for n in range(200) for word in ("fear", "anger", "joy")))
    folder = tmp_path / "llama"
    folder.mkdir()
    SentencePieceTrainer.train(
        input=str(words), model_prefix=str(folder / "tokenizer"), vocab_size=80, model_type="bpe", minloglevel=2
    )
    special = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = WholeTokenizer(AutoTokenizer.from_pretrained(folder))
    assert tokenizer.decode(tokenizer.encode("the face shows fear")) == "the face shows fear"
    assert (tokenizer.bos, tokenizer.eos) == (1, 2)
