"""Folders of Hugging Face encoders with random weights and a WordPiece vocabulary."""

from pathlib import Path

import torch

from tests.conftest import WORDS

SIZES = {
    "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 66,
}  # fmt: skip
KINDS = {
    "bert": {**SIZES, "pad_token_id": 0},
    "roberta": {**SIZES, "pad_token_id": 1},
    "xlm-roberta": {**SIZES, "pad_token_id": 1},
    "camembert": {**SIZES, "pad_token_id": 1},
    "electra": {**SIZES, "embedding_size": 16, "pad_token_id": 0},
    "distilbert": {
        "vocab_size": 40, "dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64,
        "pad_token_id": 0,
    },
}  # fmt: skip


def write_encoder(folder: Path, kind: str = "bert", **changes) -> Path:
    """Write config.json, weights and tokenizer of an encoder."""
    import tokenizers
    import transformers

    # Vocabulary: pieces of the words of the task; the order of the special tokens differs between kinds
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if KINDS[kind]["pad_token_id"] == 1:
        special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [*special, "one", "two", "sev", "##en", *letters, *(f"##{letter}" for letter in letters)]
    pieces = list(dict.fromkeys(pieces))[:40]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    model.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    ends = [("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])]
    model.post_processor = tokenizers.processors.BertProcessing(*ends)
    names = {name: f"[{name[:3].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **names).save_pretrained(str(folder))
    # Weights
    torch.manual_seed(5)
    settings = transformers.AutoConfig.for_model(kind, **{**KINDS[kind], **changes})
    transformers.AutoModel.from_config(settings).save_pretrained(str(folder))
    return folder
