"""Models of Marian and of Hugging Face as ours: the same pieces, the same probabilities."""

import io
import json
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece as spm
import torch
import yaml
from safetensors.torch import load_file, save_file

from nmt.cli import main
from nmt.config.model import TransformerConfig
from nmt.config.pretrained import find
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, UNK_ID, parse_model
from nmt.data.tokenizer import Tokenizer
from nmt.errors import NmtError
from nmt.models.build import build_model
from nmt.pretrained.names import from_ours, to_ours
from nmt.pretrained.vocabulary import vocabularies
from tests.conftest import WORDS, Task
from tests.unit.pretrained.imported import imported
from tests.unit.pretrained.marian_reference import Marian

D, HEADS, LAYERS = 16, 2, (2, 1)
LINES = {
    "src": [" ".join(random.Random(n).choices(list(WORDS), k=4)) for n in range(200)],
    "tgt": [" ".join(random.Random(n).choices(list(WORDS.values()), k=4)) for n in range(200)],
}


def pieces_model(lines, size, kind="unigram", **options) -> bytes:
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=size, model_type=kind, minloglevel=3, **options
    )
    return out.getvalue()


def random_weights(size: int, ties: str = "all") -> dict[str, torch.Tensor]:
    """Weights of our model, all of them random; the row of bos is 0."""
    torch.manual_seed(3)
    config = TransformerConfig(
        type="transformer", preset="marian", d_model=D, d_ff=24, num_heads=HEADS, encoder_layers=LAYERS[0],
        decoder_layers=LAYERS[1], tie_embeddings=ties,
    )  # fmt: skip
    model = build_model(config, size, size, 0)
    return {
        name: torch.randn_like(p) * 0.4 + (1.0 if "norm.weight" in name else 0.0)
        for name, p in model.named_parameters()
    }


def arrays_of(size: int) -> dict[str, np.ndarray]:
    """Random weights of Marian."""
    return {name: tensor.numpy() for name, tensor in from_ours(random_weights(size), "marian", *LAYERS, "all").items()}


ABOUT = {
    "type": "transformer", "dim-emb": D, "transformer-dim-ffn": 24, "transformer-heads": HEADS, "enc-depth": LAYERS[0],
    "dec-depth": LAYERS[1], "transformer-ffn-activation": "swish", "transformer-postprocess": "dan",
    "transformer-preprocess": "", "tied-embeddings-all": True, "tied-embeddings": False, "tied-embeddings-src": False,
}  # fmt: skip


def marian_folder(folder, **changes):
    """A Marian model in ``folder``, and its weights."""
    folder.mkdir(exist_ok=True)
    model = pieces_model(LINES["src"] + LINES["tgt"], 34, bos_id=-1, eos_id=0, unk_id=1)
    (folder / "vocab.spm").write_bytes(model)
    size = spm.SentencePieceProcessor(model_proto=model).get_piece_size()
    weights = arrays_of(size)
    text = yaml.safe_dump({**ABOUT, "dim-vocabs": [size, size], **changes}).encode() + b"\0"
    np.savez(folder / "model.npz", **weights, **{"special:model.yml": np.frombuffer(text, np.int8)})
    return weights


def hugging_face_folder(folder, binary=False, **changes):
    """A folder of MarianMTModel: two SentencePiece models, and a vocabulary that lacks some of their pieces.

    Returns:
        The weights in Marian's names, without the row of padding, which is 0.
    """
    folder.mkdir(exist_ok=True)
    names = ["</s>", "<unk>"]
    for name, side in (("source", "src"), ("target", "tgt")):
        model = pieces_model(LINES[side], 22)
        (folder / f"{name}.spm").write_bytes(model)
        read_model = spm.SentencePieceProcessor(model_proto=model)
        names += [read_model.id_to_piece(i) for i in range(3, read_model.get_piece_size()) if i % 7]
    names = [*dict.fromkeys(names), ">>deu<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    weights = arrays_of(len(names))
    weights["Wemb"][-1] = 0
    theirs = from_ours(
        to_ours({k: torch.from_numpy(v) for k, v in weights.items()}, "marian", *LAYERS, "all"),
        "huggingface", *LAYERS, "all",
    )  # fmt: skip
    if binary:
        torch.save(theirs, folder / "pytorch_model.bin")
    else:
        save_file(theirs, folder / "model.safetensors")
    config = {
        "model_type": "marian", "d_model": D, "encoder_layers": LAYERS[0], "decoder_layers": LAYERS[1],
        "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24, "activation_function": "swish", "scale_embedding": True, "vocab_size": len(names),
        "pad_token_id": len(names) - 1, "eos_token_id": 0, "decoder_start_token_id": len(names) - 1,
        "max_position_embeddings": 64, "forced_eos_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return weights


@torch.inference_mode()
def log_probs(model, src, tgt):
    ids = torch.tensor([[*src, EOS_ID]])
    logits = model.project(model(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([[BOS_ID, *tgt]])))[0]
    return logits.log_softmax(-1).gather(1, torch.tensor([*tgt, EOS_ID]).unsqueeze(1))[:, 0].numpy()


@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_a_marian_model_gives_the_probabilities_of_the_reference(tmp_path, activation):
    weights = marian_folder(tmp_path / "marian", **{"transformer-ffn-activation": activation})
    _, model, tokenizer = imported(tmp_path / "marian", tmp_path)
    reference = Marian(weights, *LAYERS, HEADS, activation)
    text = spm.SentencePieceProcessor(model_file=str(tmp_path / "marian" / "vocab.spm"))
    for src, tgt in list(zip(LINES["src"], LINES["tgt"], strict=True))[:5]:
        found = log_probs(model, tokenizer.encode_src([src])[0], tokenizer.encode_tgt([tgt])[0])
        expected = reference.log_probs([*text.encode(src), 0], [*text.encode(tgt), 0])
        assert np.abs(found - expected).max() < 1e-4
        assert tokenizer.decode(tokenizer.encode_tgt([tgt])) == [tgt]


def test_a_marian_model_with_a_list_of_pieces_as_opus_mt_packs_it(tmp_path):
    """``vocab.yml`` and two SentencePiece models; ``decoder.yml`` names the vocabularies."""
    weights = hugging_face_folder(tmp_path / "opus")
    ids = json.loads((tmp_path / "opus" / "vocab.json").read_text())
    for name in ("config.json", "vocab.json", "model.safetensors"):
        (tmp_path / "opus" / name).unlink()
    (tmp_path / "opus" / "all.vocab.yml").write_text(yaml.safe_dump(ids, allow_unicode=True), encoding="utf-8")
    (tmp_path / "opus" / "decoder.yml").write_text("models: [m.npz]\nvocabs: [all.vocab.yml, all.vocab.yml]\n")
    text = yaml.safe_dump({**ABOUT, "dim-vocabs": [len(ids)] * 2}).encode() + b"\0"
    np.savez(tmp_path / "opus" / "m.npz", **weights, **{"special:model.yml": np.frombuffer(text, np.int8)})
    _, model, tokenizer = imported(tmp_path / "opus", tmp_path)
    plain = [spm.SentencePieceProcessor(model_file=str(tmp_path / "opus" / f"{s}.spm")) for s in ("source", "target")]
    src, tgt = LINES["src"][0], LINES["tgt"][0]
    there = [[*(ids.get(p, 1) for p in m.encode(x, out_type=str)), 0] for m, x in zip(plain, (src, tgt), strict=True)]
    found = log_probs(model, tokenizer.encode_src([src])[0], tokenizer.encode_tgt([tgt])[0])
    assert np.abs(found - Marian(weights, *LAYERS, HEADS).log_probs(*there)).max() < 1e-4


@pytest.mark.parametrize("binary", [False, True])
def test_a_hugging_face_folder_gives_the_probabilities_of_the_reference(tmp_path, binary):
    weights = hugging_face_folder(tmp_path / "hf", binary)
    source, model, tokenizer = imported(tmp_path / "hf", tmp_path)
    reference = Marian(weights, *LAYERS, HEADS, steps="huggingface")
    src_side, tgt_side = vocabularies(source)
    for src, tgt in list(zip(LINES["src"], LINES["tgt"], strict=True))[:5]:
        ids = tokenizer.encode_src([src])[0], tokenizer.encode_tgt([tgt])[0]
        expected = reference.log_probs(
            [*(src_side.foreign[i] for i in ids[0]), 0], [*(tgt_side.foreign[i] for i in ids[1]), 0]
        )
        assert np.abs(log_probs(model, *ids) - expected).max() < 1e-4


@pytest.mark.parametrize("positions", ["marian", "huggingface"])
def test_stored_positions_and_a_trained_start_are_found_in_the_weights(tmp_path, positions):
    weights = hugging_face_folder(tmp_path / "hf")
    file = tmp_path / "hf" / "model.safetensors"
    theirs = load_file(file)
    reference = Marian(weights, *LAYERS, HEADS, steps=positions)
    table = torch.from_numpy(reference.embed([np.zeros(D)] * 64)).float()
    theirs |= {f"model.{side}.embed_positions.weight": table.clone() for side in ("encoder", "decoder")}
    theirs["model.shared.weight"][-1] = 0.5
    save_file(theirs, file)
    source, model, tokenizer = imported(tmp_path / "hf", tmp_path)
    assert model.config.start == "bos"
    assert (model.tgt_embedding.weight[BOS_ID] == 0.5).all()
    model.tgt_embedding.weight.data[BOS_ID] = weights["Wemb"][-1] = 0  # the reference starts with zeros
    ids, foreign = tokenizer.encode_src(LINES["src"][:1])[0], vocabularies(source)[0].foreign
    expected = reference.log_probs([*(foreign[i] for i in ids), 0], [foreign[7], 0])
    assert np.abs(log_probs(model, ids, [7]) - expected).max() < 1e-4


def test_pieces_that_the_vocabulary_lacks_are_unknown_and_a_language_tag_is_one_piece(tmp_path):
    hugging_face_folder(tmp_path / "hf")
    _, _, tokenizer = imported(tmp_path / "hf", tmp_path)
    ids = json.loads((tmp_path / "hf" / "vocab.json").read_text())
    plain = spm.SentencePieceProcessor(model_file=str(tmp_path / "hf" / "source.spm"))
    for line in LINES["src"]:
        expected = [ids.get(piece, 1) for piece in plain.encode(line, out_type=str)]
        found = tokenizer.encode_src([line])[0]
        foreign = vocabularies(find(str(tmp_path / "hf")))[0].foreign
        assert [foreign[i] for i in found] == expected
    assert any(UNK_ID in row for row in tokenizer.encode_src(LINES["src"]))
    tag, *rest = tokenizer.encode_src([">>deu<< one two"])[0]
    assert tokenizer.src_pieces([tag]) == ["▁>>deu<<"]
    assert rest == tokenizer.encode_src(["one two"])[0]
    assert max(map(max, tokenizer.encode_src(LINES["src"]))) < tokenizer.src_vocab_size == tokenizer.tgt_vocab_size


def test_a_language_tag_that_the_model_of_the_source_has_already_is_one_piece(tmp_path):
    """As in an export of an imported model."""
    hugging_face_folder(tmp_path / "hf")
    file = tmp_path / "hf" / "source.spm"
    model = parse_model(file)
    model.pieces.add(piece="▁>>deu<<", score=0.0, type=model.SentencePiece.USER_DEFINED)
    file.write_bytes(model.SerializeToString())
    _, _, tokenizer = imported(tmp_path / "hf", tmp_path)
    tag, *rest = tokenizer.encode_src([">>deu<< one two"])[0]
    assert tokenizer.src_pieces([tag]) == ["▁>>deu<<"]
    assert UNK_ID < tag < tokenizer.src_vocab_size
    assert rest == tokenizer.encode_src(["one two"])[0]


@pytest.mark.parametrize("ties", ["all", "decoder", "none"])
def test_the_names_of_all_weights_go_both_ways(ties):
    ours = random_weights(12, ties)
    for program in ("huggingface", "marian"):
        there = from_ours(ours, program, *LAYERS, ties)
        back = to_ours(there, program, *LAYERS, ties)
        assert back.keys() == ours.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())


def test_what_cannot_be_expressed_is_one_clear_line(tmp_path):
    def said(folder) -> str:
        with pytest.raises(NmtError) as error:
            imported(folder, tmp_path)
        shutil.rmtree(tmp_path / "tokenizer", ignore_errors=True)
        assert "\n" not in str(error.value)
        return str(error.value)

    marian_folder(tmp_path / "a", **{"transformer-decoder-autoreg": "rnn"})
    assert 'transformer-decoder-autoreg: "rnn" cannot be expressed' in said(tmp_path / "a")
    (tmp_path / "a" / "model.npz").write_bytes(b"PK damaged")
    assert "is not a Marian model, or damaged: it is no archive of arrays" in said(tmp_path / "a")
    hugging_face_folder(tmp_path / "b", model_type="bart")
    assert "model_type is bart" in said(tmp_path / "b")
    hugging_face_folder(tmp_path / "c", scale_embedding=False)
    assert "scale_embedding is false" in said(tmp_path / "c")
    hugging_face_folder(tmp_path / "d")
    (tmp_path / "d" / "model.safetensors").unlink()
    assert "contains no weights" in said(tmp_path / "d")
    hugging_face_folder(tmp_path / "e", encoder_layers=3)
    assert "lacks the weight model.encoder.layers.2" in said(tmp_path / "e")
    hugging_face_folder(tmp_path / "f")
    (tmp_path / "f" / "source.spm").write_bytes(b"\xff\xff not a model")
    assert "is not a SentencePiece model, or damaged" in said(tmp_path / "f")
    (tmp_path / "g").mkdir()
    assert "contains no model" in said(tmp_path / "g")
    (tmp_path / "h.bin").write_bytes(b"x")
    assert "name a .npz file of Marian" in said(tmp_path / "h.bin")


# ---------------------------------------------------------------------------------------------------------- trainings


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hf", "marian"])
def test_an_imported_model_trains_on_and_translates(tmp_path, kind, capsys):
    {"hf": hugging_face_folder, "marian": marian_folder}[kind](tmp_path / kind)
    task = Task(tmp_path, train=200)
    init = {"from": str(tmp_path / kind), "extend_vocabulary": 10}
    path = task.config_file("transformer", "tuned", model=None, init=init, train={"max_steps": 4})
    raw = yaml.safe_load(path.read_text()) | {"tokenizer": {"sampling": {}}}
    path.write_text(yaml.safe_dump(raw))
    assert main(["train", str(path)]) == 0
    run = tmp_path / "runs" / "tuned"
    tokenizer = Tokenizer(run / "tokenizer")
    text = "fünf sieben"
    assert tokenizer.decode(tokenizer.encode_tgt([text])) == [text]
    for engine in ("pytorch", "ctranslate2"):
        if engine == "ctranslate2":
            pytest.importorskip("ctranslate2")
        out = tmp_path / engine
        arguments = ["translate", str(run), "-i", str(task.paths["test.src"]), "-o", str(out), "--engine", engine]
        assert main(arguments) == 0
    assert (tmp_path / "pytorch").read_text() == (tmp_path / "ctranslate2").read_text()
    # A vocabulary that has all pieces of its model can be a Marian model again
    assert main(["export", str(run), "--to", "marian", "-o", str(tmp_path / "again")]) == (0 if kind == "marian" else 2)


# --------------------------------------------------------------------------------------------------------- the programs


@pytest.mark.slow
@pytest.mark.interop("transformers")
@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_probabilities_equal_those_of_transformers(tmp_path, activation):
    import transformers

    hugging_face_folder(tmp_path / "hf", activation_function=activation)
    folder = str(tmp_path / "hf")
    theirs = transformers.MarianMTModel.from_pretrained(folder).eval()
    tokens = transformers.MarianTokenizer.from_pretrained(folder)
    _, model, tokenizer = imported(folder, tmp_path)
    for src, tgt in list(zip(LINES["src"], LINES["tgt"], strict=True))[:5]:
        batch = tokens([src], text_target=[tgt], return_tensors="pt")
        with torch.inference_mode():
            expected = theirs(**batch).logits[0].log_softmax(-1).gather(1, batch["labels"][0].unsqueeze(1))[:, 0]
        found = log_probs(model, tokenizer.encode_src([src])[0], tokenizer.encode_tgt([tgt])[0])
        assert np.abs(found - expected.numpy()).max() < 1e-4


TRAIN = """
import json, sys, pymarian
pymarian.Trainer(**json.loads(sys.argv[1])).train()
"""
SCORE = """
import sys, _pymarian
sys.exit(_pymarian.main(["score", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.interop("marian")
@pytest.mark.parametrize("ties", ["all", "decoder", "none"])
def test_scores_equal_those_of_a_model_that_marian_trains(tmp_path, ties):
    for side in ("src", "tgt"):
        (tmp_path / side).write_text("".join(f"{line}\n" for line in LINES[side]), encoding="utf-8")
    files = ["vocab.spm"] * 2 if ties == "all" else ["src.spm", "tgt.spm"]
    settings = {
        "model": "model.npz", "type": "transformer", "train_sets": ["src", "tgt"], "vocabs": files,
        "dim_vocabs": [34, 34] if ties == "all" else [20, 20], "dim_emb": D, "transformer_dim_ffn": 24,
        "transformer_heads": HEADS, "enc_depth": 2, "dec_depth": 2, "transformer_ffn_activation": "relu",
        "transformer_postprocess": "dan", "cpu_threads": 1, "mini_batch": 16, "after": "3e", "learn_rate": 0.003,
        "workspace": 128, "seed": 1, "quiet": True,
        **{"all": {"tied_embeddings_all": True}, "decoder": {"tied_embeddings": True}, "none": {}}[ties],
    }  # fmt: skip

    def marian(program, *arguments):  # in a separate process, which it ends on an error
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    marian(TRAIN, json.dumps(settings))
    scores = marian(SCORE, "-m", "model.npz", "-v", *files, "-t", "src", "tgt", "--cpu-threads", "1", "--quiet")
    expected = [float(line) for line in scores.split()]
    _, model, tokenizer = imported(tmp_path / "model.npz", tmp_path)
    assert model.config.tie_embeddings == ties
    for src, tgt, score in list(zip(LINES["src"], LINES["tgt"], expected, strict=True))[:20]:
        found = log_probs(model, tokenizer.encode_src([src])[0], tokenizer.encode_tgt([tgt])[0])
        assert found.sum() == pytest.approx(score, abs=1e-4)


@pytest.mark.slow
def test_a_model_of_the_hub_is_read_from_its_cache_and_its_absence_is_one_line(tmp_path):
    """The layout of the cache: refs/main names a commit, snapshots/COMMIT has the files."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "home" / "hub" / "models--tiny--opus-mt-en-de"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots").mkdir()
    hugging_face_folder(cache / "snapshots" / commit)
    task = Task(tmp_path, train=100)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}

    def train(name):
        path = task.config_file(
            "transformer", name, model=None, init={"from": f"hf:tiny/{name}"}, train={"max_steps": 1}
        )
        raw = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "tokenizer"}
        path.write_text(yaml.safe_dump(raw))
        command = [sys.executable, "-m", "nmt", "train", str(path)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert (found := train("opus-mt-en-de")).returncode == 0, found.stderr
    about = json.loads((tmp_path / "runs" / "opus-mt-en-de" / "init" / "init.json").read_text())
    assert about["from"] == "hf:tiny/opus-mt-en-de"
    assert commit in about["path"]
    absent = train("opus-mt-fr-it")
    assert absent.returncode == 2
    lines = absent.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("nmt: init.from: hf:tiny/opus-mt-fr-it: cannot be loaded: the hub cannot be reached")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_become_float32(tmp_path, dtype):
    hugging_face_folder(tmp_path / "hf")
    file = tmp_path / "hf" / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    _, model, _ = imported(tmp_path / "hf", tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    hugging_face_folder(tmp_path / "hf", binary=True)
    torch.save({"model.shared.weight": Attack()}, tmp_path / "hf" / "pytorch_model.bin")
    with pytest.raises(NmtError, match=r"pytorch_model\.bin: cannot be read") as error:
        imported(tmp_path / "hf", tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "attacked").exists()
