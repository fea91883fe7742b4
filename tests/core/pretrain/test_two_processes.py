"""Two gloo processes on halves of a batch equal one process on the whole."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from napari_dinocell.core.pretrain.dino_loss import dino_loss
from napari_dinocell.core.pretrain.ibot_loss import ibot_loss, patch_weights
from napari_dinocell.core.pretrain.koleo_loss import koleo_loss
from napari_dinocell.core.pretrain.sinkhorn import sinkhorn_knopp

K, B, N, WIDTH = 24, 6, 10, 8
UNEQUAL = (37, 113)


def batch() -> dict[str, Tensor]:
    """Features of two global and two local crops of six fields, and masks that fill the halves unequally."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(2, B, N, dtype=torch.bool)
    tokens[0, :2, :3] = tokens[1, 3:, 2:9] = True
    return {
        "logits": 0.2 * torch.randn(sum(UNEQUAL), K, generator=generator),
        "cls": torch.randn(4, B, WIDTH, generator=generator),
        "patches": torch.randn(2, B, N, WIDTH, generator=generator),
        "tokens": tokens,
    }


def network() -> nn.Linear:
    """The same student and teacher head in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(WIDTH, K)


def losses(data: dict[str, Tensor], head: nn.Linear) -> dict[str, Tensor]:
    """All losses of the fields in `data`; targets by the same head."""
    tokens = data["tokens"].flatten(0, 1)
    chosen = data["patches"].flatten(0, 1)[tokens]
    with torch.no_grad():
        teacher_cls = head(data["cls"][:2]) * 0.1
        dino_targets = sinkhorn_knopp(teacher_cls.flatten(0, 1), 0.05).view_as(teacher_cls)
        ibot_targets = sinkhorn_knopp(head(chosen) * 0.1, 0.05)
    return {
        "dino": dino_loss(head(data["cls"]), dino_targets),
        "ibot": ibot_loss(head(chosen), ibot_targets, patch_weights(tokens)),
        "koleo": koleo_loss(
            head(data["cls"][0]), group_size=3 if not dist.is_initialized() else None
        ),
        "koleo_across": koleo_loss(head(data["cls"][1]), across_processes=True),
    }


def with_gradients(data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values and gradients, averaged over processes as data parallelism does."""
    results = {}
    for name in ("dino", "ibot", "koleo", "koleo_across"):
        head = network()
        loss = losses(data, head)[name]
        loss.backward()
        for key, value in ((name, loss.detach()), (f"{name}_gradient", head.weight.grad)):
            if dist.is_initialized():
                dist.all_reduce(value)
                value = value / dist.get_world_size()
            results[key] = value.clone()
    return results


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    data = batch()
    half = slice(3 * rank, 3 * rank + 3)
    rows = slice(0, UNEQUAL[0]) if rank == 0 else slice(UNEQUAL[0], None)
    results = with_gradients({name: x[:, half] for name, x in data.items() if name != "logits"})
    results["targets"] = sinkhorn_knopp(data["logits"][rows], 0.05)
    # Only the first process has samples.
    results["one_sided"] = sinkhorn_knopp(data["logits"][: 40 * (1 - rank)], 0.05)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_invariant_05_targets_of_unequal_halves_are_those_of_the_whole(two):
    joined = torch.cat([result["targets"] for result in two])
    torch.testing.assert_close(joined, sinkhorn_knopp(batch()["logits"], 0.05), rtol=0, atol=1e-6)
    alone = sinkhorn_knopp(batch()["logits"][: UNEQUAL[0]], 0.05)
    assert (two[0]["targets"] - alone).abs().max() > 1e-3


def test_invariant_05_a_process_without_samples_takes_part(two):
    expected = sinkhorn_knopp(batch()["logits"][:40], 0.05)
    torch.testing.assert_close(two[0]["one_sided"], expected, rtol=0, atol=1e-6)
    assert two[1]["one_sided"].shape == (0, K)


@pytest.mark.parametrize("name", ["dino", "ibot", "koleo", "koleo_across"])
def test_invariant_05_losses_and_gradients_of_two_processes_are_those_of_one(two, name):
    one = with_gradients(batch())
    for key in (name, f"{name}_gradient"):
        for result in two:
            torch.testing.assert_close(result[key], one[key], rtol=1e-5, atol=1e-7)
