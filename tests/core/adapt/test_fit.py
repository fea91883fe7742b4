"""Patches of cached features, and the training of a decoder on them."""

import numpy as np
import pytest
import torch

from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.examples import Example, annotate
from napari_dinocell.core.adapt.features import cache_features, dihedral, read_windows
from napari_dinocell.core.adapt.fit import Recipe, fit, with_decoder
from napari_dinocell.core.adapt.patches import Patch
from napari_dinocell.core.adapt.windows import units_of
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.prediction import Thresholds

from .specimens import BRIGHT, DIM, discs, lattice

AT = Thresholds(0.55, 0.2, 0, 0.0)


def evidence_of(base, size=128, n_views=8):
    network, card = base
    card = card.model_copy(update={"tile": 256})
    rng = np.random.default_rng(1)
    centers = lattice((size, size), 24, rng, 2)
    levels = rng.choice([BRIGHT, DIM], len(centers))
    plane, labels = discs((size, size), centers, 7, levels)
    example = Example(plane, labels, intensity=IntensityRange(0.0, 1.0, False))
    annotations = [annotate(example, card)]
    units = units_of(annotations)
    windows = cache_features(
        network,
        read_windows(annotations, units, card),
        AT,
        card,
        seconds=100,
        max_bytes=1 << 30,
        n_views=n_views,
    )
    return Evidence.of(annotations, windows, units)


def run(base, evidence, steps=6, **options):
    everything = frozenset(evidence.units)
    held_out = frozenset(evidence.units[:4])
    settings = {"seconds": 100, "check_every": 2, "steps": steps} | options
    recipe = settings.pop("recipe", Recipe(learning_rate=3e-3))
    return fit(
        base[0],
        evidence.training(everything - held_out),
        evidence.held_out(held_out),
        recipe,
        **settings,
    )


@pytest.mark.parametrize("view", [0, 1, 5, 6])
def test_a_patch_gives_the_map_of_its_window_in_every_view(base, view):
    network, _ = base
    (window,) = evidence_of(base, size=256).windows
    patch = Patch(window, (64, 112, 192, 240))
    with torch.no_grad():
        image = dihedral(window.image, view)[None]
        whole = network.decode([level[None] for level in window.views[view]], image)[0, 0]
        levels, cut = patch.inputs(view)
        part = network.decode([level[None] for level in levels], cut[None])[0, 0]
    # Turn the whole map back by turning positions instead: the view of the index image says where.
    place = dihedral(torch.arange(256 * 256).reshape(256, 256), view)
    wanted = torch.empty(256 * 256)
    wanted[place.flatten()] = whole.flatten()
    wanted = patch.within(wanted.reshape(256, 256), view)
    inside = dihedral(patch.reliable(), view)
    error = (part - wanted).abs()[inside]
    assert error.mean() < 2e-3
    assert torch.equal(cut, patch.within(window.image, view))


def test_features_are_kept_in_half_precision_and_change_the_map_by_little(base):
    network, _ = base
    (window,) = evidence_of(base).windows
    assert all(level.dtype == torch.float16 for level in window.views[0])
    assert sorted(window.views) == list(range(8))
    with torch.no_grad():
        exact = network(window.image[None])[0, 0].numpy()
        halved = network.decode([v[None] for v in window.views[0]], window.image[None])[0, 0]
    assert np.abs(exact - halved.numpy()).max() < 0.01
    assert np.abs(exact - window.base.values).max() < 1e-5


def test_a_window_that_is_not_square_has_the_views_of_its_own_shape(small_base):
    network, card = small_base
    plane, labels = discs((48, 112), [(24, 24), (24, 80)], 7, [BRIGHT, BRIGHT])
    annotations = [annotate(Example(plane, labels), card)]
    units = units_of(annotations)
    (window,) = cache_features(
        network, read_windows(annotations, units, card), AT, card, seconds=9, max_bytes=1 << 30
    )
    assert window.shape == (48, 112)
    assert sorted(window.views) == [0, 2, 4, 6]


def test_training_lowers_the_held_out_loss_and_touches_neither_statistics_nor_encoder(base):
    network, _ = base
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evidence = evidence_of(base, n_views=2)
    fitted = run(base, evidence, steps=12)
    curve = fitted.curve
    assert curve.steps == [0, 2, 4, 6, 8, 10, 12]
    assert len(curve.loss) == len(curve.held_out) == len(fitted.maps) == 7
    assert min(curve.held_out) < 0.7 * curve.held_out[0]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in fitted.state.items():
        if "running_" in name or name.endswith("num_batches_tracked"):
            assert torch.equal(value, before[f"decoder.{name}"]), name
    assert with_decoder(network, fitted.state).encoder is network.encoder


def test_the_returned_weights_are_those_of_the_best_check(small_base):
    network, _ = small_base
    evidence = evidence_of(small_base, n_views=1)
    fitted = run(small_base, evidence, steps=40, recipe=Recipe(learning_rate=0.3))
    best = int(np.argmin(fitted.curve.held_out))
    held_out = evidence.held_out(frozenset(evidence.units[:4]))
    with torch.no_grad():
        levels, image = held_out[0].patch.inputs(0)
        map_ = with_decoder(network, fitted.state).decode(
            [level[None] for level in levels], image[None]
        )
    wanted = fitted.maps[best][0] / 65535
    assert np.abs(map_[0, 0].numpy() - wanted).max() < 1e-4
    assert len(fitted.curve.steps) - 1 - best <= 8, "8 checks without gain end the training"


def test_training_is_a_function_of_its_seed(small_base):
    evidence = evidence_of(small_base, n_views=3)
    runs = [
        run(small_base, evidence, recipe=Recipe(learning_rate=1e-3, seed=seed)).curve
        for seed in (0, 0, 1)
    ]
    assert runs[0].held_out == runs[1].held_out
    assert runs[0].held_out != runs[2].held_out


def test_nothing_to_train_on_is_one_sentence(small_base):
    with pytest.raises(ValueError, match="No annotation is left to train on"):
        fit(small_base[0], [], [], Recipe(), seconds=1, steps=1, check_every=1)


def test_training_ends_when_it_is_told_to_and_when_time_is_over(small_base):
    evidence = evidence_of(small_base, n_views=1)
    told = []
    fitted = run(
        small_base,
        evidence,
        steps=1000,
        cancel=lambda: len(told) >= 3,
        watch=lambda curve, done: told.append(done),
    )
    assert fitted.curve.steps == [0, 2, 4]
    assert told == sorted(told)
    short = run(small_base, evidence, steps=1000, seconds=1e-6, check_every=5)
    assert short.curve.steps == [0, 1], "one step is always made, and looked at"
