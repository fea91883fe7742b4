"""What a run writes down, and what it looks at: numbers at once, the rest in a thread of its own.

A look (pictures, health, consistency on fixed held-out tiles) and the segmentation probe work on a
copy of the teacher while the steps go on. Their results are written when they are ready, with the
step that they belong to as `look/step` and `probe/step`. They draw from no random state of the run.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from imageio.v3 import imwrite
from numpy.typing import NDArray
from torch import Tensor

from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.best import best_path, keep_best
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.consistency import measure
from napari_dinocell.core.pretrain.gallery import GalleryTile, embed, read_gallery
from napari_dinocell.core.pretrain.health import feature_spread, rank_me, target_health
from napari_dinocell.core.pretrain.looks import attention_sheet, component_sheet
from napari_dinocell.core.pretrain.probe import probe
from napari_dinocell.core.pretrain.run import Run, source_settings
from napari_dinocell.core.pretrain.targets import Targets
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.training.config import dump_config
from napari_dinocell.core.training.logbook import Logbook
from napari_dinocell.core.writing import whole_file

_log = logging.getLogger(__name__)
_SHOWN = ("loss/total", "loss/dino", "loss/ibot", "schedule/lr", "system/tiles_per_s")


@dataclass(frozen=True)
class Look:
    """Result of a look or a probe."""

    values: dict[str, float]
    pictures: dict[str, NDArray[np.uint8]]


class Monitor:
    """Log and looks of a run. Only the main process writes and looks; the others pass by.

    As a context it ends with all looks finished and the log closed. A look is skipped with a warning
    while the one before still runs, and so is a probe.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._config = run, run.config
        self._is_main = run.place.is_main
        self._logbook: Logbook | None = None
        self._pool = ThreadPoolExecutor(1, "look")
        self._looks: dict[str, list[Future[Look]]] = {"look": [], "probe": []}
        self._is_warned = False
        self._tiles: list[GalleryTile] | None = None
        self._n_steps, self._seconds, self._own = 0, 0.0, 0.0
        self._waited = self._waited_before = 0.0  # since the start, and when last written

    def __enter__(self) -> "Monitor":
        if self._is_main:
            out = Path(self._config.out)
            out.mkdir(parents=True, exist_ok=True)
            with whole_file(out / "config.yaml") as path:
                path.write_text(dump_config(self._config), encoding="utf-8")
            if self._run.step == 0:  # what is there is of another run
                best_path(out, self._config.name).unlink(missing_ok=True)
            self._logbook = Logbook(
                out,
                self._config.steps,
                wandb=self._config.wandb,
                project=self._config.wandb_project,
                name=self._config.name,
                config=self._config.model_dump(mode="json"),
                shown=_SHOWN,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A run that was stopped waits for the look that has begun, not for those that have not.
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if self._logbook is not None:
            self._write_looks(self._logbook)
            self._logbook.close()

    def note(self, seconds: float, waited: float) -> None:
        """Count a step: its time, and the seconds that all steps so far have waited for data."""
        self._n_steps += 1
        self._seconds, self._waited = self._seconds + seconds, waited

    def write(
        self, losses: dict[str, float], norms: dict[str, Tensor], targets: Sequence[Targets]
    ) -> None:
        """Write the numbers of the last step, and means of the times since the last writing."""
        if self._logbook is None:
            return
        begin = time.perf_counter()
        run, step = self._run, self._run.step
        plan, at = run.plan, run.step - 1
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= {
            "schedule/lr": float(plan.backbone_rate[at]),
            "schedule/head_lr": float(plan.head_rate[at]),
            "schedule/weight_decay": float(plan.weight_decay[at]),
            "schedule/momentum": float(plan.momentum[at]),
            "schedule/teacher_temperature": float(plan.temperature[at]),
            "schedule/student_temperature": self._config.loss.student_temperature,
        }
        values |= {f"gradient_norm/{name}": float(norm) for name, norm in norms.items()}
        values |= target_health(targets)
        values |= self._times() | run.stream.counters.log_values()
        if run.device.type == "cuda":
            values["system/gpu_memory_gb"] = torch.cuda.max_memory_allocated(run.device) / 1e9
        self._logbook.write(step, values)
        self._write_looks(self._logbook)
        self._own += time.perf_counter() - begin

    def look(self) -> None:
        """Look at the teacher as it is now, in the background."""
        self._submit("look", self._look)

    def probe(self) -> None:
        """Train and score the segmentation probe on the teacher as it is now, in the background."""
        if self._config.probe is not None:
            self._submit("probe", self._probe)

    def _submit(self, name: str, work: Callable[[VisionTransformer, int], Look]) -> None:
        """Begin in the background, unless the one before still runs; the last is never skipped."""
        begin, step = time.perf_counter(), self._run.step
        backbone = self._run.whole_backbone()
        if backbone is None:  # in another process than the main one
            return
        is_busy = any(not look.done() for look in self._looks[name])
        if is_busy and step < len(self._run.plan):
            if not self._is_warned:
                self._is_warned = True
                _log.warning(
                    "The %s of step %d is skipped: the one before still runs. Look or probe less "
                    "often; this is said once.", name, step,
                )  # fmt: skip
        else:
            self._looks[name].append(self._pool.submit(work, backbone, step))
        self._own += time.perf_counter() - begin

    def _times(self) -> dict[str, float]:
        n, seconds = max(self._n_steps, 1), max(self._seconds, 1e-9)
        values = {
            "system/step_s": seconds / n,
            "system/tiles_per_s": n * self._config.batch / seconds,
            "system/data_wait_s": self._waited,
            "system/data_wait_share": (self._waited - self._waited_before) / seconds,
            "system/log_share": self._own / seconds,
        }
        self._n_steps, self._seconds, self._own = 0, 0.0, 0.0
        self._waited_before = self._waited
        return values

    def _write_looks(self, logbook: Logbook) -> None:
        done = [look for looks in self._looks.values() for look in looks if look.done()]
        for name, looks in self._looks.items():
            self._looks[name] = [look for look in looks if look not in done]
        for future in done:
            if future.cancelled():
                continue
            error = future.exception()
            if error is not None:  # a picture is not worth a run
                _log.warning("A look failed: %s", error)
                continue
            look = future.result()
            logbook.write(self._run.step, look.values)
            for name, picture in look.pictures.items():
                logbook.picture(self._run.step, name, picture)

    def _look(self, backbone: VisionTransformer, step: int) -> Look:
        if self._tiles is None:
            self._tiles = look_tiles(self._config, self._run.held_out)
        look = look_at(backbone, self._tiles)
        folder = Path(self._config.out) / "looks"
        folder.mkdir(exist_ok=True)
        for name, picture in look.pictures.items():
            with whole_file(folder / f"{step:07d}-{name.rpartition('/')[2]}.png") as path:
                imwrite(path, picture)
        return Look({"look/step": float(step), **look.values}, look.pictures)

    def _probe(self, backbone: VisionTransformer, step: int) -> Look:
        assert self._config.probe is not None
        result = probe(backbone, self._config.probe, self._run.device)
        path = best_path(self._config.out, self._config.name)
        if keep_best(path, backbone, result.op_csb, step):
            _log.info("The best backbone so far: OP_CSB %.3f at step %d.", result.op_csb, step)
        values = {"probe/step": float(step), "probe/OP_CSB": result.op_csb}
        values["probe/AP50"] = result.ap50
        values |= {f"probe/{name}/OP_CSB": value for name, value in result.per_set.items()}
        return Look(values, {})


def look_tiles(config: SSLConfig, fields: Manifest) -> list[GalleryTile]:
    """The fixed tiles of a run's looks."""
    return read_gallery(
        fields,
        source_settings(config.data),
        side=config.views.global_size,
        pixel_size_um=config.data.pixel_size_um,
        n_fields=config.look_fields,
        left_out=config.data.left_out,
    )


def look_at(backbone: VisionTransformer, tiles: Sequence[GalleryTile]) -> Look:
    """Health, consistency and pictures of a backbone on fixed tiles."""
    features = embed(backbone, tiles)
    cls = torch.from_numpy(np.concatenate([f.cls for f in features]))
    patches = torch.from_numpy(
        np.concatenate([f.patches.reshape(-1, cls.shape[1]) for f in features])
    )
    values = {
        "look/cls_rank": rank_me(cls),
        "look/cls_spread": feature_spread(cls),
        "look/patch_rank": rank_me(patches[:: max(1, len(patches) // 20_000)]),
        "look/patch_spread": feature_spread(patches),
    }
    try:
        report = measure(tiles, features)
    except ValueError as error:  # nothing to compare
        _log.info("Consistency is not measured: %s", error)
    else:
        for name in ("same", "channel", "margin", "order", "retrieval", "chance", "dense"):
            values[f"look/{name}"] = getattr(report, name).value
        for name in ("attention", "attention_other"):
            values[f"look/{name}"] = getattr(report, name).value
    richest = max(range(len(tiles)), key=lambda i: len(tiles[i].channels))
    pictures = {
        "look/attention": attention_sheet(tiles[richest], features[richest]),
        "look/components": component_sheet(tiles[:8], features[:8]),
    }
    return Look(values, pictures)
