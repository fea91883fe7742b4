"""Does pre-training on channels as views help? Strategies from one start, on one budget.

    python benchmarks/pretrain_gain.py DATA --out runs/gain
    python benchmarks/pretrain_gain.py DATA --out runs/quick --encoder tiny --size 48 --steps 30 \
        --heads 10 --every 15 --batch 4 --no-labeled --probe-steps 0
    python benchmarks/pretrain_gain.py DATA --out runs/small --encoder tiny --size 48 --steps 1000 \
        --heads 20 --every 250 --momentum 0.96 --lr 1.4e-3 --prototypes 64 --set \
        teacher.final_momentum=0.98 teacher.temperature=0.02 teacher.final_temperature=0.02 \
        loss.koleo=0.02 heads.hidden=256 optimizer.head_scale=1

DATA is the folder with `multichannel/` and labeled images. One stain (by default all kinds of
actin) is never shown in training. For the start and for every strategy the margin, the AUROC and
the retrieval across channels of held-out fields are measured, with intervals over their groups,
once over all channels and once between the unseen stain and the first other channel; and OP_CSB of
a probe on frozen features. The scientific test is `separate` against `mean_vs_single`: only the
second asks for agreement. Run again with the same options, it goes on where it was stopped; others
need another folder. A small network on a short budget (third line) needs a teacher that follows faster
and sharper targets, as the preset ssl_smoke says.
"""

import argparse
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import torch

from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.pretrain.config import DataSettings, ProbeSettings, SSLConfig
from napari_dinocell.core.pretrain.consistency import measure
from napari_dinocell.core.pretrain.gallery import GalleryTile, embed, read_gallery
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.pretrain.probe import probe
from napari_dinocell.core.pretrain.run import source_settings
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.pretrain.start import make_network
from napari_dinocell.core.training.config import load_config
from napari_dinocell.core.writing import whole_file

ARMS = {
    "separate": {"views": {"strategy": "separate"}},
    "mean_only": {"views": {"strategy": "mean_only"}},
    "mean_vs_single": {"views": {"strategy": "mean_vs_single"}},
    "mean_vs_single+cross": {"views": {"strategy": "mean_vs_single"}, "loss": {"cross": 0.5}},
}
FREE = ("out", "arms", "device", "threads")  # options that may differ when it goes on
SHOWN = ("margin", "order", "retrieval", "dense", "same")
Results = dict[str, dict[str, object]]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    out = Path(options.out)
    keep_options(options, out)
    data = data_settings(options, left_out=())
    training, held_out = open_fields(data)
    if held_out is None:
        raise SystemExit("No field is held out; give fields of several plates.")
    names = {n for part in (training, held_out) for r in part for n in r.channels}
    unseen = tuple(sorted(n for n in names if re.search(options.stain, n, re.IGNORECASE)))
    print(f"{len(training)} fields to train on, {len(held_out)} held out; unseen: {unseen}")
    tiles = read_gallery(
        held_out, source_settings(data), side=options.size, tiles_per_field=options.tiles
    )
    pairs = [pair for tile in tiles if (pair := stain_pair(tile, unseen)) is not None]
    stored = out / "results.json"
    results: Results = json.loads(stored.read_bytes()) if stored.is_file() else {}

    def score(name: str, step: int, weights: Path) -> None:
        key = f"{name} {step}"
        if key not in results:
            is_end = step in (0, options.steps)
            results[key] = evaluate(options, weights, tiles, pairs, is_end=is_end)
            with whole_file(stored) as path:
                path.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(f"{key:<28} {describe(results[key])}", flush=True)

    start = out / "start.safetensors"
    save_backbone(start, make_network(configuration(options, out, unseen, {})).backbone)
    score("start", 0, start)
    for name in options.arms:
        config = configuration(options, out / name, unseen, ARMS[name])
        pretrain(config)
        for step in range(options.every, options.steps + 1, options.every):
            path = out / name / f"checkpoint-{options.heads + step:07d}.pt"
            score(name, step, path)
    print("\n" + table(results, options.steps))
    draw(results, out / "curves.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--out", default="runs/pretrain_gain")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--stain", default="actin", help="regular expression of the unseen stain")
    parser.add_argument("--encoder", default="vits8")
    parser.add_argument("--weights", help="backbone to start from; random if not given")
    parser.add_argument("--new-tensors", nargs="*", default=["mask_token"])
    parser.add_argument("--size", type=int, default=112, help="side of global crops, px")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--heads", type=int, default=300, help="steps with a frozen backbone")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each arm after that")
    parser.add_argument("--every", type=int, default=500, help="steps between points of the curves")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--momentum", type=float, default=0.996, help="at a batch of 64")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of every arm")
    parser.add_argument("--prototypes", type=int, default=4096)
    parser.add_argument("--tiles", type=int, default=8, help="gallery tiles per field")
    parser.add_argument("--probe-steps", type=int, default=300, help="0: no probe")
    parser.add_argument("--probe-set", default="dsb2018_fluo")
    parser.add_argument("--no-labeled", dest="labeled", action="store_false")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.steps % options.every:
        parser.error("--steps must be a multiple of --every")
    return options


def keep_options(options: argparse.Namespace, out: Path) -> None:
    """Write the options beside the results; stop if those that are there are of others."""
    given = {name: value for name, value in vars(options).items() if name not in FREE}
    path = out / "options.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name in {**before, **given} if before.get(name) != given.get(name)]:
            raise SystemExit(
                f"The results in {out} are of {changed[0]} = {before.get(changed[0])}, now it is "
                f"{given.get(changed[0])}; give another --out, or the same options."
            )
    elif (out / "results.json").is_file():
        raise SystemExit(f"{out} has results of unknown options; give another --out.")
    else:
        out.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(given, indent=1), encoding="utf-8")


def data_settings(options: argparse.Namespace, left_out: tuple[str, ...]) -> DataSettings:
    root = Path(options.data)
    sources = [root / "multichannel"] + ([root] if options.labeled else [])
    return DataSettings(
        sources=tuple(map(str, sources)),
        left_out=left_out,
        held_out=0,
        tile=round(options.size * 1.4),
        tiles_per_field=2,
        memory_gb=2,
        fetch_threads=4,
        field_threads=2,
        most_zeros=1.0,
    )


def configuration(
    options: argparse.Namespace,
    out: Path,
    unseen: tuple[str, ...],
    changes: dict[str, dict[str, object]],
) -> SSLConfig:
    """Run of one arm: one epoch, whose first twentieth warms up."""
    local = max(16, round(options.size * 96 / 224 / 8) * 8)
    is_learned = options.encoder == "vits8-learned"
    content = {
        "name": out.name,
        "out": str(out),
        "data": data_settings(options, unseen).model_dump(mode="json"),
        "model": {
            "encoder": options.encoder,
            "weights": options.weights,
            "new_tensors": tuple(options.new_tensors),
            "rescale": 1.0 if is_learned else 2.0,
        },
        "heads": {"prototypes": options.prototypes, "steps": options.heads, "gate": 0},
        "views": {"global_size": options.size, "local_size": local, **changes.get("views", {})},
        "loss": {"min_block": 4, **changes.get("loss", {})},
        "optimizer": {"lr": options.lr, "warmup_epochs": 0.05},
        "teacher": {"temperature_epochs": 0.3, "momentum": options.momentum},
        "epochs": 1,
        "steps_per_epoch": options.steps,
        "batch": options.batch,
        "seed": options.seed,
        "device": options.device,
        "threads": options.threads,
        "checkpoint_every": math.gcd(options.heads, options.every),
        "keep": 10_000,
        "look_every": 0,
    }
    path = out.with_name(f"{out.name}.yaml")
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")  # is YAML, too
    return load_config(SSLConfig, path, options.set)


def stain_pair(tile: GalleryTile, unseen: tuple[str, ...]) -> GalleryTile | None:
    """The unseen stain of a tile beside its first other channel."""
    stain = [c for c, name in enumerate(tile.channels) if name in unseen]
    other = [c for c, name in enumerate(tile.channels) if name not in unseen]
    if not stain or not other:
        return None
    chosen = [other[0], stain[0]]
    names = tuple(tile.channels[c] for c in chosen)
    return replace(tile, pixels=tile.pixels[chosen], channels=names)


def evaluate(
    options: argparse.Namespace,
    weights: Path,
    tiles: list[GalleryTile],
    pairs: list[GalleryTile],
    *,
    is_end: bool,
) -> dict[str, object]:
    backbone = open_backbone(weights, options.encoder).to(resolve_device(options.device))
    report = measure(tiles, embed(backbone, tiles))
    result: dict[str, object] = {"all": asdict(report), "verdict": report.verdict()}
    if len(pairs) > 1:
        result["unseen"] = asdict(measure(pairs, embed(backbone, pairs)))
    if options.probe_steps and is_end:
        settings = ProbeSettings(
            source=options.data, sets={options.probe_set: 1.0}, steps=options.probe_steps
        )
        result["probe"] = probe(backbone, settings, resolve_device(options.device)).op_csb
    return result


def describe(result: dict[str, object]) -> str:
    parts = []
    for part in ("all", "unseen"):
        if part in result:
            values = result[part]
            assert isinstance(values, dict)
            shown = " ".join(f"{name} {values[name]['value']:.3f}" for name in SHOWN)
            parts.append(f"{part}: {shown}")
    if "probe" in result:
        parts.append(f"OP_CSB {result['probe']:.3f}")
    return "; ".join(parts)


def table(results: Results, steps: int) -> str:
    """Markdown: start and end of each arm, with intervals over groups."""
    names = ("margin", "order", "retrieval")
    head = [f"{part} {name}" for part in ("all", "unseen") for name in names] + ["OP_CSB"]
    lines = ["| arm | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for key, result in results.items():
        arm, step = key.rsplit(" ", 1)
        if arm != "start" and int(step) != steps:
            continue
        cells = []
        for part in ("all", "unseen"):
            values = result.get(part)
            for name in names:
                x = values[name] if isinstance(values, dict) else None
                cells.append(f"{x['value']:.3f} [{x['low']:.3f}, {x['high']:.3f}]" if x else "-")
        cells.append(f"{result['probe']:.3f}" if "probe" in result else "-")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: Results, path: Path) -> None:
    """Curves of margin and retrieval over the steps, one line per arm."""
    try:
        import matplotlib  # noqa: PLC0415  optional
    except ImportError:
        print("matplotlib is not installed: no curves are drawn.")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    arms = dict.fromkeys(key.rsplit(" ", 1)[0] for key in results if not key.startswith("start"))
    for axis, name in zip(axes, ("margin", "retrieval"), strict=True):
        for arm in arms:
            points = {0: results["start 0"]} | {
                int(key.rsplit(" ", 1)[1]): value
                for key, value in results.items()
                if key.rsplit(" ", 1)[0] == arm
            }
            values = [points[step]["all"][name] for step in sorted(points)]  # type: ignore[index]
            axis.plot(sorted(points), [v["value"] for v in values], marker="o", label=arm)
            axis.fill_between(
                sorted(points), [v["low"] for v in values], [v["high"] for v in values], alpha=0.15
            )
        axis.set_xlabel("steps")
        axis.set_ylabel(name)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    main()
