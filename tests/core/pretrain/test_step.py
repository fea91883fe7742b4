"""One step on drawn tiles: accumulation, masks, who gets gradients."""

import math

import numpy as np
import pytest
import torch

from napari_dinocell.core.pretrain.batches import Batch, MaskDrawing, ViewDrawing, channel_groups
from napari_dinocell.core.pretrain.channels import ChannelGroup
from napari_dinocell.core.pretrain.health import target_health
from napari_dinocell.core.pretrain.regularize import BlockRunning
from napari_dinocell.core.pretrain.start import make_network
from napari_dinocell.core.pretrain.step import Student, forward_backward
from napari_dinocell.core.pretrain.targets import Targets, micro_batches
from napari_dinocell.core.pretrain.teacher import make_teacher
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.samples import Sample

CALM = ("model.drop_path=0", "model.rescale=1")


def make_batch(config, numbers=range(4)):
    """Tiles of noise, drawn by their number in the run."""
    drawing, tiles, views = ViewDrawing(config), [], []
    for number in numbers:
        rng = np.random.default_rng(number)
        tile = rng.random((3, 48, 48)).astype(np.float32)
        record = FieldRecord("s", "b", "p", str(number), "1", ("a", "b", "c"), ("x",))
        _, drawn = drawing(Sample(number, record, tile, np.ones(3, bool)))
        tiles.append(tile)
        views.append(drawn)
    ids = tuple(f"field {n}" for n in numbers)
    masks, visible = MaskDrawing(config)(numbers)
    return Batch(
        torch.from_numpy(np.stack(tiles)), tuple(views), masks, visible, tuple(numbers), ids
    )


def step(config, batch, *, frozen=False, number=3):
    """Losses, targets and the networks after one backward pass."""
    network = make_network(config)
    teacher = make_teacher(network)
    running = BlockRunning(config.model.drop_path)
    student = Student(network, running, config.model.rescale, config.seed)
    student.freeze(frozen)
    anchor = make_teacher(network) if config.loss.gram else None
    losses, targets = forward_backward(
        student, teacher, batch, config, step=number, temperature=0.05, anchor=anchor
    )
    return losses, targets, network, teacher


def gradients(network):
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_gradient_accumulation_changes_neither_losses_nor_gradients(configured):
    whole = configured(*CALM, "loss.koleo_group=2")
    parts = configured(*CALM, "loss.koleo_group=2", "micro_batch=2")
    batch = make_batch(whole)
    one, targets, network, _ = step(whole, batch)
    other, in_parts, again, _ = step(parts, batch)
    assert len(targets) == 1
    assert len(in_parts) == 2
    for name, value in one.over_processes().items():
        assert other.over_processes()[name] == pytest.approx(value, rel=1e-5), name
    torch.testing.assert_close(gradients(again), gradients(network), rtol=1e-4, atol=1e-6)


def test_targets_of_parts_are_balanced_over_the_whole_step(configured):
    config = configured(*CALM, "micro_batch=2", "loss.koleo_group=2")
    batch = make_batch(config)
    _, targets, *_ = step(config, batch)
    alone = configured(*CALM, "loss.koleo_group=2")
    _, (half,), *_ = step(alone, make_batch(alone, range(2)))
    assert not torch.allclose(targets[0].dino, half.dino, atol=1e-4)


def test_masks_belong_to_a_sample_wherever_it_is_computed(configured):
    config = configured("batch=8")
    (whole,) = micro_batches(make_batch(config, range(40, 48)), 0)
    (half,) = micro_batches(make_batch(config, range(44, 48)), 0)
    (later,) = micro_batches(make_batch(config, range(52, 56)), 0)
    assert torch.equal(half.masks.view(2, 4, -1), whole.masks.view(2, 8, -1)[:, 4:])
    assert torch.equal(half.chosen.view(2, 4, -1), whole.chosen.view(2, 8, -1)[:, 4:])
    assert not torch.equal(half.masks, later.masks)
    assert whole.masks.any(dim=1).sum() == 8  # half of 16 global crops
    assert torch.equal(half.crops.globals, whole.crops.globals[:, 4:])


def test_a_batch_that_cannot_be_cut_is_one_sentence(configured):
    config = configured("micro_batch=3")
    with pytest.raises(ValueError, match="cannot be cut into parts of 3"):
        step(config, make_batch(config))


def test_invariant_07_initial_losses_are_ln_K(configured):
    config = configured()
    losses, *_ = step(config, make_batch(config))
    ln_k = math.log(config.heads.prototypes)
    assert float(losses.dino) == pytest.approx(ln_k, abs=0.05)
    assert float(losses.ibot) == pytest.approx(0.5 * ln_k, abs=0.05)
    assert float(losses.cross) == pytest.approx(ln_k, abs=0.05)


def test_invariant_10_no_gradient_reaches_the_teacher_and_nothing_is_shared(configured):
    config = configured()
    _, _, network, teacher = step(config, make_batch(config))
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in network.parameters())
    ours = {p.data_ptr() for p in network.parameters()}
    assert not ours & {p.data_ptr() for p in teacher.parameters()}


def test_a_frozen_backbone_gets_no_gradient_and_sees_no_regularization(configured):
    config = configured("model.drop_path=0.5")
    losses, _, network, _ = step(config, make_batch(config), frozen=True)
    calm, *_ = step(configured(*CALM), make_batch(config), frozen=True)
    assert all(p.grad is None for p in network.backbone.parameters())
    assert all(p.grad is not None for p in network.dino_head.parameters())
    assert float(losses.total) == float(calm.total)


def test_invariant_18_without_its_weight_the_cross_term_leaves_no_trace(configured):
    with_term = configured(*CALM)
    without = configured(*CALM, "loss.cross=0")
    one, *_ = step(with_term, make_batch(with_term))
    other, (targets,), *_ = step(without, make_batch(without))
    assert targets.cross is None
    assert float(other.cross) == 0
    for name in ("dino", "ibot", "koleo"):
        assert float(getattr(one, name)) == float(getattr(other, name))


def test_a_student_that_sees_all_is_where_its_anchor_is(configured):
    # With a mask it is not: the anchor sees the whole crop.
    whole = configured(*CALM, "loss.gram=1", "loss.mask_share=0")
    assert float(step(whole, make_batch(whole))[0].gram) == pytest.approx(0, abs=1e-10)
    masked = configured(*CALM, "loss.gram=1")
    assert float(step(masked, make_batch(masked))[0].gram) > 1e-6
    assert float(step(configured(*CALM), make_batch(masked))[0].gram) == 0


def test_the_total_is_the_weighted_sum(configured):
    weights = ("loss.ibot=0.3", "loss.koleo=0.2", "loss.cross=0.7", "loss.gram=5")
    config = configured(*weights)
    losses, *_ = step(config, make_batch(config))
    expected = losses.dino + 0.3 * losses.ibot + 0.2 * losses.koleo + 0.7 * losses.cross
    expected = expected + 5 * losses.gram
    assert float(losses.total) == pytest.approx(float(expected), rel=1e-6)


def test_the_student_is_regularized_by_keys_of_its_step(configured):
    config = configured("model.drop_path=0.5")
    batch = make_batch(config)
    values = [float(step(config, batch, number=n)[0].koleo) for n in (3, 3, 4)]
    assert values[0] == values[1] != values[2]


def test_left_out_channels_are_never_rendered(configured):
    config = configured("data.left_out=[b]")
    for views in make_batch(config, range(12)).views:
        for view in (*views.globals, *views.locals, *views.answers):
            assert view is None or all(row[1] == 0 for row in view.rendering.weights)


def test_groups_come_from_names():
    names = ("DNA", "color red", "Brightfield", "color green", "color blue")
    kinds = ("fluorescence", "fluorescence", "brightfield", "fluorescence", "fluorescence")
    joint = (("color red", "color green", "color blue"), ("DNA", "absent"))
    assert channel_groups(names, kinds, joint) == (
        ChannelGroup((1, 3, 4), "joint"),
        ChannelGroup((0,), "fluorescence"),
        ChannelGroup((2,), "brightfield"),
    )


def test_health_tells_certain_uniform_and_collapsed_targets_apart():
    def health(rows):
        return target_health([Targets(rows.view(1, *rows.shape), rows, None)])

    certain = health(torch.eye(8))
    uniform = health(torch.full((8, 8), 1 / 8))
    collapsed = health(torch.eye(8)[:1].expand(8, 8).contiguous())
    names = ("target_entropy", "marginal_entropy", "prototypes_used")
    assert [certain[f"health/{n}"] for n in names] == pytest.approx([0, 1, 1])
    assert [uniform[f"health/{n}"] for n in names[:2]] == pytest.approx([1, 1])
    assert [collapsed[f"health/{n}"] for n in names] == pytest.approx([0, 0, 1 / 8])
