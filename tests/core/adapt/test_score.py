from napari_dinocell.core.adapt.score import Tally, is_better


def test_a_rise_that_one_cell_makes_alone_is_chance_and_one_of_all_cells_is_not():
    base = Tally((0.6, 0.7, 0.8), (0, 0, 0))
    assert is_better(Tally((0.65, 0.74, 0.86), (0, 0, 0)), base)
    # Means rise by the same 0.05; the differences are 0.3, -0.1, -0.05: standard error 0.126.
    assert not is_better(Tally((0.9, 0.6, 0.75), (0, 0, 0)), base)
    assert not is_better(Tally((0.604, 0.704, 0.804), (0, 0, 0)), base)


def test_a_false_marker_less_is_better():
    assert is_better(Tally((0.8, 0.8), (0, 0)), Tally((0.8, 0.8), (0, 0), n_false=1))
