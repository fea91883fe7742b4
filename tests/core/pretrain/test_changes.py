from napari_dinocell.core.pretrain.changes import changed_settings
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.training.config import dump_config


def test_what_moves_the_weights_is_named_and_what_reads_or_writes_is_not(configured):
    before = dump_config(configured())
    assert changed_settings(before, configured()) == []
    harmless = ("data.fetch_threads=1", "data.moved={a: b}", "out=elsewhere", "log_every=7")
    assert changed_settings(before, configured(*harmless)) == []
    assert changed_settings(before, configured("optimizer.lr=1", "views.n_local=1")) == [
        "views.n_local (2 -> 1)",
        "optimizer.lr (5e-05 -> 1.0)",
    ]


def test_a_setting_that_an_older_version_did_not_have_is_no_change(configured):
    before = dump_config(configured()).replace("  koleo: 0.1\n", "")
    assert changed_settings(before, configured()) == []


def test_a_run_that_goes_on_with_other_settings_says_so(configured, caplog):
    pretrain(configured("epochs=0.25"))
    pretrain(configured("epochs=0.25", "views.strategy=separate"))
    (said,) = (r.message for r in caplog.records if "other settings" in r.message)
    assert said.endswith("before: views.strategy (mean_vs_single -> separate).")
