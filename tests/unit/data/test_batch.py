"""Batches: padding, and batches without targets."""

from __future__ import annotations

import numpy as np
import pytest

from nmt.data.batch import collate
from nmt.models.build import build_model
from nmt.training.loss import projected_cross_entropy


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_a_batch_without_targets_gives_every_weight_a_gradient_of_zero(task, family):
    model = build_model(task.config(family).model, 20, 20, 0)
    pairs = [(np.array([5, 6]), np.array([7])), (np.array([8]), np.array([9, 10, 11]))]
    batch = collate(pairs, np.array([3, 1]), pad_id=0, bos_id=2, eos_id=3).without_targets()
    assert (batch.tgt_tokens, batch.rows.tolist(), batch.padding) == (0, [], (14, 14))
    hidden = batch.at_targets(model(batch.src, batch.src_mask, batch.tgt_in))
    loss = projected_cross_entropy(hidden, model.output, batch.at_targets(batch.tgt_out), 0.1)
    loss.smoothed.backward()
    assert loss.smoothed == loss.nll == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_collate_by_hand():
    pairs = [(np.array([5, 6]), np.array([7])), (np.array([8]), np.array([9, 10, 11]))]
    batch = collate(pairs, np.array([3, 1]), pad_id=0, bos_id=2, eos_id=3)
    assert batch.src.tolist() == [[5, 6, 3], [8, 3, 0]]
    assert batch.src_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.tgt_in.tolist() == [[2, 7, 0, 0], [2, 9, 10, 11]]
    assert batch.tgt_out.tolist() == [[7, 3, 0, 0], [9, 10, 11, 3]]
    assert batch.target_positions.tolist() == [0, 1, 4, 5, 6, 7]
    assert batch.at_targets(batch.tgt_out).tolist() == [row for row in batch.tgt_out.flatten().tolist() if row != 0]
    assert (batch.src_tokens, batch.tgt_tokens) == (5, 6)
    assert batch.padding == (3, 14)
