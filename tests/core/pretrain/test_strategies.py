import numpy as np
import pytest

from napari_dinocell.core.pretrain.channels import ChannelGroup, FieldViews
from napari_dinocell.core.pretrain.strategies import STRATEGIES, Pairwise, make_strategy

PLATE = (ChannelGroup((0, 1, 2, 3, 4)), ChannelGroup((5, 6, 7), "brightfield"))
N_LOCAL = 8


def samples(name: str, n: int = 300, **options):
    """Renderings of many samples of an 8-channel field, with what the field offers."""
    strategy = make_strategy(name)
    for seed in range(n):
        rng = np.random.default_rng(seed)
        offer = FieldViews(rng, (True,) * 8, PLATE, **options)
        yield offer, strategy.renderings(rng, offer, N_LOCAL), strategy.n_global


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_renders_its_global_and_the_local_crops(name):
    for _, renderings, n_global in samples(name, 5):
        assert len(renderings) == n_global + N_LOCAL
        assert n_global == (5 if name == "pairwise" else 2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_accepts_a_field_with_one_channel(name):
    rng = np.random.default_rng(0)
    offer = FieldViews(rng, (True,))
    renderings = make_strategy(name).renderings(rng, offer, N_LOCAL)
    assert set(renderings) == {offer.mean}


def test_invariant_09_mean_vs_single_puts_the_mean_first_as_often_as_second():
    first = 0
    for offer, (a, b, *_), _ in samples("mean_vs_single"):
        assert (a == offer.mean) != (b == offer.mean)
        first += a == offer.mean
    assert 110 < first < 190


def test_mean_vs_single_draws_every_channel_and_both_kinds_of_local_crops():
    locals_, singles = [], set()
    for offer, renderings, _ in samples("mean_vs_single"):
        locals_ += [r == offer.mean for r in renderings[2:]]
        singles |= {r for r in renderings[:2] if r != offer.mean}
    assert np.mean(locals_) == pytest.approx(0.5, abs=0.05)
    assert singles == set(offer.parts)


def test_mean_vs_single_over_eight_channels_uses_one_brightfield_plane_per_sample():
    seen = 0
    for offer, renderings, _ in samples("mean_vs_single", brightfield_share=0.2):
        brightfield = {r for r in renderings if r != offer.mean and r not in offer.parts}
        assert brightfield <= {offer.brightfield}
        seen += len(brightfield)
    assert seen > 100


def test_controls_never_compare_two_channels():
    for offer, renderings, _ in samples("separate"):
        assert len(set(renderings)) == 1
        assert renderings[0] in offer.parts
    for offer, renderings, _ in samples("mean_only", 20):
        assert set(renderings) == {offer.mean}


def test_random_single_each_never_shows_the_mean_and_two_channels_globally():
    for offer, renderings, _ in samples("random_single_each"):
        assert offer.mean not in renderings
        assert renderings[0] != renderings[1]


def test_pairwise_shows_every_channel_once():
    for offer, renderings, _ in samples("pairwise", 20):
        assert set(renderings[:5]) == set(offer.parts)


def test_unknown_strategy_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'average' is unknown; choose one of mean_vs_single, "):
        make_strategy("average")
    with pytest.raises(ValueError, match="at least 2"):
        Pairwise(1)
