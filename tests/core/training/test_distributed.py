import pytest
import torch
from torch import nn

from napari_dinocell.core.training.distributed import (
    SynchronizedBatchNorm2d,
    World,
    synchronize_batch_norm,
)


def test_slices_of_all_processes_make_the_batch():
    parts = [World(rank, 4, rank).slice(12) for rank in range(4)]
    assert [i for part in parts for i in part] == list(range(12))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="choose a multiple of 3"):
        World(0, 3, 0).slice(8)


def test_replacement_keeps_weights_statistics_and_output():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Sequential(nn.BatchNorm2d(5)))
    plain(torch.rand(2, 3, 8, 8))
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    plain.eval()
    x = torch.rand(1, 3, 8, 8)
    expected = plain(x)
    synchronize_batch_norm(plain)
    assert isinstance(plain[1], SynchronizedBatchNorm2d)
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())
    plain.eval()
    torch.testing.assert_close(plain(x), expected)
