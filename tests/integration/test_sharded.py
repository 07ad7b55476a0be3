"""Several processes divide one model among themselves (FSDP2): ranks on the CPU, connected by gloo."""

import pytest

from nmt import pipeline
from tests.integration.test_distributed import assert_like_one_process, exact, train


@pytest.mark.parametrize(
    ("family", "accumulate", "options"), [("transformer", 1, {"batching": "packed"}), ("rnn", 2, {})]
)
def test_two_ranks_train_as_one_process(task, family, accumulate, options):
    pipeline.train(task.config(family, "one", **exact(family, accumulate=2 * accumulate, **options)))
    sharded = exact(family, accumulate=accumulate, parallel="sharded", **options)
    ranks = train(task, 2, task.config_file(family, "two", **sharded))
    assert ranks.codes == [0, 0], ranks.output
    assert "sharded: " in ranks.output[0]
    assert_like_one_process(task, "one", "two")
