"""Marian's Transformer in NumPy, from its own names: the log-probabilities that imported weights must give."""

import numpy as np


class Marian:
    """Post-norm layers, sines before cosines, a decoder that starts with zeros; embeddings tied throughout.

    Args:
        weights: of a ``.npz`` file of Marian.
        steps: what the logarithm of the slowest rate is divided by: D/2 - 1 in Marian, D/2 in MarianMTModel.
    """

    def __init__(self, weights, encoder_layers, decoder_layers, heads, activation="swish", steps="marian", eps=1e-5):
        self.w, self.layers, self.heads, self.eps = weights, (encoder_layers, decoder_layers), heads, eps
        self.activation, self.steps = activation, steps

    def log_probs(self, src, tgt):
        """log p of each target id, [T]; both sides end in the end mark."""
        x = self.embed([self.w["Wemb"][i] for i in src])
        for n in range(1, self.layers[0] + 1):
            x = self.norm(x + self.attend(x, x, f"encoder_l{n}_self"), f"encoder_l{n}_self_Wo")
            x = self.norm(x + self.feed(x, f"encoder_l{n}_ffn"), f"encoder_l{n}_ffn_ffn")
        y = self.embed([np.zeros_like(self.w["Wemb"][0]), *(self.w["Wemb"][i] for i in tgt[:-1])])
        for n in range(1, self.layers[1] + 1):
            name = f"decoder_l{n}"
            y = self.norm(y + self.attend(y, y, f"{name}_self", causal=True), f"{name}_self_Wo")
            y = self.norm(y + self.attend(y, x, f"{name}_context"), f"{name}_context_Wo")
            y = self.norm(y + self.feed(y, f"{name}_ffn"), f"{name}_ffn_ffn")
        logits = y @ self.w["Wemb"].T + self.w["decoder_ff_logit_out_b"]
        logits -= logits.max(-1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return log_probs[np.arange(len(tgt)), tgt]

    def embed(self, rows):
        d = len(rows[0])
        rates = np.exp(-np.arange(d // 2) * np.log(10_000) / (d // 2 - (self.steps == "marian")))
        angles = np.arange(len(rows))[:, None] * rates
        return np.stack(rows).astype(np.float64) * np.sqrt(d) + np.concatenate([np.sin(angles), np.cos(angles)], -1)

    def linear(self, x, name, letter):
        return x @ self.w[f"{name}_W{letter}"] + self.w[f"{name}_b{letter}"]

    def attend(self, x, memory, name, causal=False):
        query, keys, values = (self.linear(s, name, letter) for s, letter in ((x, "q"), (memory, "k"), (memory, "v")))
        d = x.shape[1] // self.heads
        out = []
        for part in (slice(h * d, (h + 1) * d) for h in range(self.heads)):
            scores = query[:, part] @ keys[:, part].T / np.sqrt(d)
            if causal:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out.append(weights / weights.sum(-1, keepdims=True) @ values[:, part])
        return self.linear(np.concatenate(out, -1), name, "o")

    def feed(self, x, name):
        x = self.linear(x, name, "1")
        return self.linear(x / (1 + np.exp(-x)) if self.activation == "swish" else np.maximum(x, 0), name, "2")

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.eps)
        return normed * self.w[f"{name}_ln_scale"] + self.w[f"{name}_ln_bias"]
