"""Every mistake in a configuration ends in one line that names the file, the line, the key and the way out."""

import re

import pytest

from nmt.config.explain import dotted
from nmt.config.load import load_config
from nmt.errors import ConfigError
from tests.unit.config.configurations import BASE, message

OVERRIDES = [
    ("model.num_head=3", "--set: model.num_head: unknown key; did you mean model.num_heads?"),
    ("model.num_heads=7", "--set: model: num_heads (7) must divide d_model (512); near it: 2, 4, 8"),
    ("model.d_model=33 model.num_heads=3 model.positions=rotary",
     "--set: model: rotary positions need an even head width, not 11"),
    ("train.batch_tokens=abc", '--set: train.batch_tokens: "abc" (text) should be an integer'),
    ("train.batch_tokens=4,000", '--set: train.batch_tokens: "4,000" (text) should be an integer; write 4000'),
    ("train.max_steps=1 000 000", '--set: train.max_steps: "1 000 000" (text) should be an integer; write 1000000'),
    ("train.batch_tokens=4k", '--set: train.batch_tokens: "4k" (text) should be an integer; write 4000'),
    ("train.batch_tokens=30%", '--set: train.batch_tokens: "30%" (text) should be an integer'),
    ("model.dropout=30%", '--set: model.dropout: "30%" (text) should be a number; write 0.3'),
    ("train.optimizer.lr=0,001", '--set: train.optimizer.lr: "0,001" (text) should be a number; write 0.001'),
    ("train.batch_tokens=0", "--set: train.batch_tokens: 0 (integer) should be greater than 0"),
    ("train.batch_tokens=1.5", "--set: train.batch_tokens: 1.5 (number) should be an integer"),
    ("train.batch_tokens=true", "--set: train.batch_tokens: true (truth value) should be an integer"),
    ("modle.x=1", "--set: modle: unknown key; did you mean model?"),
    ("train.optimizer.betas=[0.9]", "--set: train.optimizer.betas: must have at least 2 items, not 1"),
    ("train.optimizer.betas=[0.9,2]", "--set: train.optimizer.betas[1]: 2 (integer) should be less than 1"),
    ("model={type: transformer, sliding_window: 9}",
     "--set: model.sliding_window: unknown key; did you mean model.attention_window?"),
    ("model.norm_type=RMSNorm",
     "--set: model.norm_type: \"RMSNorm\" is not one of 'layer', 'rms' or 'scale' (did you mean rms?)"),
    ("model.type=transfomer", '--set: model.type: "transfomer" is not known; did you mean transformer?'),
    ("model={}", "--set: model.type: missing; one of: rnn, transformer"),
    ("model={type: rnn, attention: hard}", "--set: model.attention: \"hard\" is not one of 'additive', 'general', "
     "'dot', 'scaled_dot', 'euclidean' or 'none' (did you mean additive with model.alignment: hard?)"),
    ("model={type: rnn, input_feed: true}", "--set: model.input_feed: unknown key; did you mean model.input_feeding?"),
    ("model={type: rnn, hard: {temperature: 0}}",
     "--set: model.hard.temperature: 0 (integer) should be greater than 0"),
    ("model={type: rnn, hops: 0}", "--set: model.hops: 0 (integer) should be greater than 0"),
    ("data.train={kind: txt}", '--set: data.train.kind: "txt" is not known; did you mean text?'),
    ("data.train={kind: text, src: a}", "--set: data.train.tgt: missing; it has no default"),
    ("data.train={src: a}", "--set: data.train.kind: missing; one of: auto, csv, demo, hub, jsonl, mixture, "
     "opustrainer, parquet, text, tmx, tsv, xlsx, zip"),
    ("data.train={kind: text, src: [a, b], tgt: c}", "--set: data.train: src names 2 files but tgt 1"),
    ("data.train={kind: holdout, fraction: 0.1}", '--set: data.train.kind: "holdout" is not known; '
     "one of: auto, csv, demo, hub, jsonl, mixture, opustrainer, parquet, text, "
     "tmx, tsv, xlsx, zip"),
    ("data.test={x: {kind: holdout}}", "--set: data.test.x.fraction: missing; it has no default"),
    ("data.test={a/b: {kind: demo, part: test}}", '--set: data.test.a/b: "a/b" must be letters, digits, '
     "'_', '-' and '.', not starting with '.' or '-'"),
    ("data.valid={kind: holdout, fraction: 0.95}",
     "c.yaml:1: data: the holdout parts take 95% of the training data; keep them under 90%"),
    ("tokenizer.sampling={alpha: 2.0}", 
     "--set: tokenizer.sampling.alpha: 2.0 (number) should be less than or equal to 1"),
    ("tokenizer.sampling={alph: 0.1}", "--set: tokenizer.sampling.alph: unknown key; did you mean "
     "tokenizer.sampling.alpha?"),
    ("tokenizer.sampling={nbest: 1}", "--set: tokenizer.sampling: nbest must be -1 (all segmentations) or at least 2"),
    ("tokenizer.sampling={nbest: 8} tokenizer.type=bpe",
     "--set: tokenizer.sampling.nbest: 8 has no effect: a bpe model has no list of best segmentations; unigram has; "
     "remove it"),
    ("tokenizer.normalization=nfcc",
     "--set: tokenizer.normalization: \"nfcc\" is not one of 'nmt_nfkc', 'nfkc', 'nmt_nfkc_cf', 'nfkc_cf', "
     "'whitespace' or 'identity' (did you mean nfkc?)"),
    ("tokenizer.normalization={target: identity}",
     "--set: tokenizer.normalization.target: unknown key; did you mean tokenizer.normalization.tgt?"),
    ("tokenizer.vocab_size=7", "--set: tokenizer.vocab_size: 7 (integer) should be greater than or equal to 8"),
    ("tokenizer.vocab_size={src: 30}", "--set: tokenizer.vocab_size.tgt: missing; it has no default"),
    ("tokenizer.vocab_size={src: 30, tgt: 40}",
     "--set: tokenizer: a joint vocabulary has one vocab_size; give one number, or set joint: false"),
    ("tokenizer.type=char tokenizer.sampling={}",
     "--set: tokenizer: a char tokenizer has one segmentation only; sampling needs unigram or bpe"),
    ("tokenizer.joint=false",
     "--set: model.tie_embeddings: all needs one vocabulary; set tokenizer.joint: true or tie less"),
    ("train.validate_every=epohc", "--set: train.validate_every: \"epohc\" (text) should be an integer, or 'epoch'"),
    ("train.max_steps=null",
     "--set: train: nothing would end the training: set max_steps, max_epochs, max_minutes or patience"),
    ("train.max_steps=null train.patience=3 train.schedule.name=cosine",
     "--set: train: a cosine schedule needs its end: set max_steps, max_epochs, max_minutes or "
     "schedule.total_steps; or schedule.name: inverse_sqrt, which needs none"),
    ("train.max_steps=null train.max_epochs=3 train.schedule.end=max_steps",
     "--set: train: a cosine schedule needs its end: set max_steps or schedule.total_steps; or schedule.name: "
     "inverse_sqrt, which needs none"),
    ("train.average=3", "c.yaml:6: train: averaging 3 checkpoints needs keep_last of at least that, not 1"),
    ('train.watch=["a",""]', "--set: train.watch: sentence 2 is empty; remove it"),
    ("train.schedule.name=cosin", "--set: train.schedule.name: \"cosin\" is not one of 'inverse_sqrt', 'cosine', "
     "'linear', 'constant' or 'plateau' (did you mean cosine?)"),
    ("model.positions=learned model.max_positions=100",
     "--set: model.max_positions (100) is under the longest sequence "
     "(257, from data.cleaning.max_tokens and search.max_source_tokens); raise it to 257"),
    ("seed=-1", "--set: seed: -1 (integer) should be greater than or equal to 0"),
    ("name=../x",
     '--set: name: "../x" must be letters, digits, \'_\', \'-\' and \'.\', not starting with \'.\' or \'-\''),
    ("model=null", "--set: model: must be a mapping of keys to values, not null"),
    ("train=3", "--set: train: must be a mapping of keys to values, not 3 (integer)"),
    ("x", "--set x: must be key=value, such as train.max_steps=100"),
    ("train..x=1", "--set train..x=1: must be key=value, such as train.max_steps=100"),
    ("train.max_steps.x=3", "--set train.max_steps.x=3: train.max_steps has no keys below it"),
    ("train.devise=cpu", "--set: train.devise: unknown key; did you mean train.device?"),
    ("train.Max-Steps=3", "--set: train.Max-Steps: unknown key; did you mean train.max_steps?"),
    ("lr=0.1", "--set: lr: unknown key; did you mean train.optimizer.lr?"),
    ("train.batch_size=3", "--set: train.batch_size: unknown key; did you mean train.batch_tokens?"),
    ("model.d_hidden=3", "--set: model.d_hidden: unknown key; it belongs to type: rnn; remove it, or start from a "
     "configuration of that type"),
    ("zzz=1", "--set: zzz: unknown key; valid here: name, runs, seed, init, data, tokenizer, model, train, search, "
     "translate, evaluation, defaults"),
    ("train.device=gpu", "--set: train.device: \"gpu\" is not one of 'auto', 'cpu', 'cuda' or 'mps' "
     "(did you mean cuda?)"),
    ("train.precision=float32", "--set: train.precision: \"float32\" is not one of 'auto', 'fp32', 'bf16' or 'fp16' "
     "(did you mean fp32?)"),
    ("train.precision=16", "--set: train.precision: 16 is not one of 'auto', 'fp32', 'bf16' or 'fp16' "
     "(did you mean fp16?)"),
    ("train.schedule=noam", "--set: train.schedule: must be a mapping of keys to values, not \"noam\" (text); "
     "did you mean train.schedule.name: inverse_sqrt?"),
    ("model.type=lstm", '--set: model.type: "lstm" is not known; did you mean rnn with model.cell: lstm?'),
    ("train.max_minutes=1h30m", '--set: train.max_minutes: "1h30m" (text) should be a number; write the minutes: 90'),
    ("train.checkpoint_every_minutes=0", "--set: train.checkpoint_every_minutes: 0 (integer) should be greater than 0; "
     "null turns it off"),
    ("train.clip_norm=0", "--set: train.clip_norm: 0 (integer) should be greater than 0; null turns it off"),
    ("train.max_minutes=0", "--set: train.max_minutes: 0 (integer) should be greater than 0"),
    ("train.max_steps=auto", '--set: train.max_steps: "auto" (text) should be an integer; for the default, remove '
     "the key"),
    ("data.train=tmx", "--set: data.train: must be a mapping of keys to values, not \"tmx\" (text); did you mean "
     "data.train.kind: tmx?"),
    ("data.train=xliff", "--set: data.train: must be a mapping of keys to values, not \"xliff\" (text); export it as "
     "TMX (kind: tmx), as tab-separated text (kind: tsv) or as two text files (kind: text)"),
    ("data.train={kind: arrow}", "--set: data.train.kind: \"arrow\" is not known; read an Arrow file with {kind: hub, "
     "path: FILE, src_column: NAME, tgt_column: NAME}"),
    ("data.train={kind: xls}", "--set: data.train.kind: \"xls\" is not known; save the workbook as XLSX and read that "
     "with kind: xlsx"),
    ("data.train={kind: csv}", "--set: data.train.path: missing; it has no default"),
    ("data.train={kind: csv, path: a, delimiter: tab}", "--set: data.train: delimiter must be one character, and no "
     "quotation mark or newline; a tab is \"\\t\""),
    ("data.train={kind: csv, path: a, src_column: en, header: false}", "--set: data.train: columns by their headings "
     "need header: true; give their numbers, from 0"),
    ("data.train={kind: tmx, path: a, header: true}", "--set: data.train.header: unknown key; it belongs to kind: auto "
     "and kind: csv and kind: tsv and kind: xlsx; remove it, or start from a configuration of that type"),
    ("data.train={kind: tmx, path: a, on_bad_row: drop}", "--set: data.train.on_bad_row: \"drop\" is not one of "
     "'error' or 'skip'"),
    ("data.train={kind: tsv, path: a, src_column: -1}", "--set: data.train: there is no column -1; columns are "
     "counted from 0"),
    ("data.train={kind: tsv, path: a, src_column: en, header: false}", "--set: data.train: columns by their headings "
     "need header: true; give their numbers, from 0"),
    ("num_heads=3", "--set: num_heads: unknown key; did you mean model.num_heads or model.encoder.num_heads?"),
    ("model.num_layers=3", "--set: model.num_layers: unknown key; did you mean model.encoder_layers?"),
    ("model.encoder=recurrent", "--set: model.encoder: must be a mapping of keys to values, not \"recurrent\" (text); "
     "did you mean model.encoder.type: recurrent?"),
    ("model.encoder={type: lstm}", "--set: model.encoder.type: \"lstm\" is not known; did you mean recurrent with "
     "model.encoder.cell: lstm?"),
    ("model.encoder={d_model: 512}", "--set: model.encoder.type: missing; one of: convolutional, pretrained, "
     "recurrent, transformer"),
    ("model.encoder={type: recurrent, cel: lstm}", "--set: model.encoder.cel: unknown key; did you mean "
     "model.encoder.cell?"),
    ("model.encoder={type: recurrent, num_heads: 3}", "--set: model.encoder.num_heads: unknown key; it belongs to "
     "type: transformer; remove it, or start from a configuration of that type"),
    ("model.encoder={type: recurrent}",
     "--set: model: tie_embeddings: all needs one width of embeddings, but d_model is 512 and encoder.d_model 256; "
     "set encoder.d_model: 512, or tie_embeddings: decoder"),
    ("model={type: rnn, tie_embeddings: all, encoder: {type: transformer, d_model: 64}}",
     "--set: model: tie_embeddings: all needs one width of embeddings, but d_model is 256 and encoder.d_model 64; "
     "set encoder.d_model: 256, or tie_embeddings: decoder"),
    ("model.encoder={type: recurrent, d_model: 512} model.encoder_layers=3",
     "--set: model.encoder_layers: 3 has no effect: encoder (recurrent) has its number of layers in "
     "encoder.num_layers; remove it"),
    ("model={type: rnn, encoder: {type: transformer}, encoder_layers: 3}",
     "--set: model.encoder_layers: 3 has no effect: encoder (transformer) has its number of layers in "
     "encoder.num_layers; remove it"),
    ("model={type: gnmt}", "--set: model.type: \"gnmt\" is not known; did you mean rnn with model.preset: gnmt?"),
    ("model={type: rnn, bidirectional: true}", "--set: model.bidirectional: true is not one of 'all' or 'first' "
     "(did you mean all?)"),
    ("model={type: rnn, encoder: {type: convolutional, encoder_layers: 3}}",
     "--set: model.encoder.encoder_layers: unknown key; did you mean model.encoder.num_layers?"),
    ("model={type: rnn, encoder: {type: convolutional, hidden_size: 3}}",
     "--set: model.encoder.hidden_size: unknown key; did you mean model.encoder.d_model?"),
    ("model={type: rnn, residual: true}", "--set: model.residual: true has no effect: it takes two layers, or three "
     "with bidirectional: first; remove it"),
    ("model={type: rnn, encoder: {type: recurrent, num_layers: 2, residual: true, bidirectional: first}}",
     "--set: model.encoder.residual: true has no effect: it takes two layers, or three with bidirectional: first; "
     "remove it"),
    ("model={type: rnn, residual: true, residual_from: 3, encoder_layers: 2}", "--set: model.residual: true has no "
     "effect: the highest layer that can have a residual connection is layer 2; remove it"),
    ("model={type: rnn, bidirectional: first}",
     '--set: model.bidirectional: "first" has no effect: the encoder has one layer, the first; remove it'),
    ("train.average_of=best",
     '--set: train.average_of: "best" has no effect: average is null: no checkpoints are averaged; remove it'),
    ("data.train=[a.tsv,b.tsv]", "--set: data.train: must be a mapping of keys to values, not a list; several files "
     "need their kind: {kind: tsv, path: [FILE, FILE]}"),
    ("search.sampling=true", "--set: search.sampling: unknown key; did you mean search.method?"),
    ("train.ema=true", "--set: train.ema: unknown key; did you mean train.ema_decay?"),
    ("search.method=greedy", "--set: search.method: \"greedy\" is not one of 'beam' or 'sample' (did you mean beam "
     "with search.beam_size: 1?)"),
    ("model={type: rnn, alignment: local}", "--set: model.alignment: \"local\" is not one of 'soft', 'hard', "
     "'local_monotonic' or 'local_predictive' (did you mean local_predictive?)"),
    ("search.length_penalty=none search.alpha=0.5",
     "--set: search.alpha: 0.5 has no effect: search.length_penalty is none; remove it"),
    ("model.encoder={type:cnn}", "--set model.encoder={type:cnn}:1: type:cnn: a space is missing after the colon: "
     "type: cnn"),
    ("train.terms={r_drop: {}, z_loss:1e-4}", "--set train.terms={r_drop: {}, z_loss:1e-4}:1: z_loss:1e-4: a space is "
     "missing after the colon: z_loss: 1e-4"),
    ("model.encoder={type: cnn}", "--set: model.encoder.type: \"cnn\" is not known; did you mean convolutional?"),
    ("model.encoder={type: convolutional, kernel: 4}", "--set: model.encoder: kernel (4) must be odd, to read as many "
     "tokens before each as after it; near it: 3, 5"),
    ("model.encoder={type: convolutional, positions: sinusoidal, d_model: 9}", "--set: model.encoder: sinusoidal "
     "positions need an even d_model, not 9"),
    ("model={type: rnn, encoder: {type: convolutional, positions: none, max_positions: 9}}",
     "--set: model.encoder.max_positions: 9 has no effect: positions: none has no longest sequence; learned has; "
     "remove it"),
    ("model={type: rnn, encoder: {type: convolutional, max_positions: 20}}",
     "--set: model.encoder.max_positions (20) is under the longest sequence "
     "(257, from data.cleaning.max_tokens and search.max_source_tokens); raise it to 257"),
    ("model.encoder={type: transformer, num_heads: 7}",
     "--set: model.encoder: num_heads (7) must divide d_model (512); near it: 2, 4, 8"),
    ("model.encoder={type: transformer, max_positions: 7}", "--set: model.encoder.max_positions: 7 has no effect: "
     "sinusoidal positions have no longest sequence; learned ones do; remove it"),
    ("model.encoder={type: transformer, positions: learned, max_positions: 100}",
     "--set: model.encoder.max_positions (100) is under the longest sequence "
     "(257, from data.cleaning.max_tokens and search.max_source_tokens); raise it to 257"),
    ("seed=[", "--set seed=[:1: not valid YAML: expected the node content, but found '<stream end>'"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "expected"), OVERRIDES, ids=[o for o, _ in OVERRIDES])
def test_wrong_values(tmp_path, overrides, expected):
    # Split at spaces before a new key=, so that YAML in braces stays whole.
    assert message(tmp_path, BASE, *re.split(r" (?=[a-z_.]+=)", overrides)) == expected


def test_of_many_mistakes_the_first_are_reported(tmp_path):
    lines = message(tmp_path, BASE + "".join(f"k{i}: 1\n" for i in range(3000))).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("c.yaml:7: k0: unknown key; ")
    assert lines[-1] == "c.yaml: 2,980 more mistakes"


def test_several_mistakes_are_all_reported(tmp_path):
    assert len(message(tmp_path, BASE, "seed=x", "model.d_modl=3").splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "overrides", "place"),
    [
        ("model: {type: transformer, num_heads: 3}", [], "c.yaml:5: model: num_heads (3)"),
        ("model: {type: transformer, num_heads: 3}", ["train.max_steps=9"], "c.yaml:5: model: num_heads (3)"),
        ("model: {type: transformer, d_model: 30}", ["model.num_heads=4"], "--set: model: num_heads (4)"),
        ("model: {type: rnn}", ["model.num_heads=3", "model.type=transformer"], "--set: model: num_heads (3)"),
        ("model: {type: transformer}\nsearch:\n  alpha: 1\n  length_penalty: none", [], "c.yaml:7: search.alpha: 1"),
    ],
)
def test_an_error_of_several_keys_names_the_option_that_set_one(tmp_path, text, overrides, place):
    whole = BASE.replace("model: {type: transformer}", text)
    assert message(tmp_path, whole, *overrides).startswith(place)


def test_dotted():
    assert dotted(("a", 0, "b")) == "a[0].b"


def test_a_key_that_is_no_text(tmp_path):
    (tmp_path / "c.yaml").write_text('{"\\ud800"}', encoding="ascii")
    with pytest.raises(ConfigError, match=re.escape('c.yaml: (top): "\ud800" (text) should be a string')):
        load_config(tmp_path / "c.yaml")
