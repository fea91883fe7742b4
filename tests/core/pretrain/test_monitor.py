"""What the monitor does with looks for which there is no time."""

import threading

import pytest
import torch

from napari_dinocell.core.pretrain.monitor import Monitor
from napari_dinocell.core.pretrain.run import prepare
from napari_dinocell.core.training.distributed import World

from .test_runs import log


@pytest.fixture
def prepared(configured):
    run = prepare(configured("look_fields=2"), World(0, 1, 0), torch.device("cpu"))
    yield run
    run.stream.close()


def test_looks_do_not_queue_up_and_the_last_one_is_made(prepared, tmp_path, caplog):
    is_free = threading.Event()
    with Monitor(prepared) as monitor:
        monitor._pool.submit(is_free.wait)
        for step in (1, 2, 3, len(prepared.plan)):
            prepared.step = step
            monitor.look()
        assert len(monitor._looks["look"]) == 2
        is_free.set()
    looks = [entry["look/step"] for entry in log(tmp_path / "out") if "look/step" in entry]
    assert looks == [1, len(prepared.plan)]
    warnings = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert warnings == [
        "The look of step 2 is skipped: the one before still runs. Look or probe less often; this "
        "is said once."
    ]


def test_a_run_that_fails_does_not_wait_for_looks_that_have_not_begun(prepared, tmp_path):
    is_queued, moment = threading.Event(), threading.Event()
    looks = []

    def work_until_the_next_is_dropped() -> None:
        is_queued.wait()
        for _ in range(1000):
            if looks[0].cancelled():
                return
            moment.wait(0.01)

    def fail() -> None:
        with Monitor(prepared) as monitor:
            monitor._pool.submit(work_until_the_next_is_dropped)
            prepared.step = 1
            monitor.look()
            looks.extend(monitor._looks["look"])
            is_queued.set()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert looks[0].cancelled()
    assert not (tmp_path / "out" / "looks").exists()
