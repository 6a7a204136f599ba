"""A small tokenizer on disk, as transformers writes it: a word of the vocabulary is a token, others end in letters."""

from pathlib import Path

WORDS = ("the", "cat", "sat", "on", "a", "mat", "dog", "ran", "good", "bad", "film", "very")


def write_tokenizer(folder: Path, *, max_length: int = 16) -> Path:
    """The folder of a fast tokenizer with [CLS] and [SEP]; `mat` is split into `ma` and `##t`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = (*special, *(word for word in WORDS if word != "mat"), "ma", "##t")
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **names).save_pretrained(folder)
    return folder
