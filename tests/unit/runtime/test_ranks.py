import itertools

import pytest

from nmt.errors import DataError, DeviceError
from nmt.runtime.ranks import ALONE, OtherRankFailed, Ranks
from nmt.runtime.startup import join


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 24])
def test_blocks_are_the_row_in_order_of_rank_and_differ_by_one_at_most(size, count):
    everyone = [Ranks() for _ in range(size)]
    for rank, ranks in enumerate(everyone):
        ranks.rank, ranks.size = rank, size
    row = list(range(count))
    blocks = [row[ranks.block(count)] for ranks in everyone]
    assert list(itertools.chain(*blocks)) == row
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_alone_there_is_nobody_to_agree_with():
    assert ALONE.is_main
    assert ALONE.on_main(lambda: 1) == ALONE.on_every_rank(lambda: 1) == ALONE.main_first(lambda: 1) == 1
    assert ALONE.gather("x") == ["x"]
    assert ALONE.exchange([1, 2.5]) == [[1, 2.5]]
    assert ALONE.gather_items("abc"[ALONE.block(3)]) == ["a", "b", "c"]
    error = DataError("wrong")
    assert ALONE.raised_once(error) is error


def test_one_tells_what_all_end_for():
    other = Ranks()
    other.rank, other.size = 1, 2
    silent = other.raised_once(DataError("wrong"))
    assert isinstance(silent, OtherRankFailed)
    assert (str(silent), silent.exit_code) == ("", 2)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(DeviceError, match="WORLD_SIZE is 2 in the environment, but RANK is not set; start several"):
        join()
