"""Is a backbone consistent across channels? A report with controls, and a verdict in one sentence.

python -m napari_dinocell.core.pretrain.consistency BACKBONE DATA
python -m napari_dinocell.core.pretrain.consistency runs/ssl/checkpoint-0010000.pt DATA --baseline START
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from napari_dinocell.core.console import run
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.pretrain import agreement
from napari_dinocell.core.pretrain.agreement import Interval, bootstrap
from napari_dinocell.core.pretrain.channel_probe import channel_probe
from napari_dinocell.core.pretrain.config import DataSettings, SSLConfig
from napari_dinocell.core.pretrain.gallery import Embedded, GalleryTile, embed, read_gallery
from napari_dinocell.core.pretrain.health import feature_spread, rank_me
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.pretrain.run import source_settings
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.training.config import load_config

LEAST_SPREAD = 0.3  # below, the mean cosine of any two tiles is above 0.91
COSINE_AIM, ORDER_AIM = 0.85, 0.95


@dataclass(frozen=True)
class Consistency:
    """Agreement of a backbone's features across channels, over groups of fields.

    Attributes
    ----------
    n_tiles, n_groups : int
    same, channel, other : Interval
        Cosine of CLS tokens: same tile in two channels; other tile, same channel; both other.
    margin : Interval
        `same` minus `channel`, of features centered per channel and group: the headline. 0 for
        features that have nothing to do with each other, 1 for equal ones.
    centered_other : Interval
        Control of the centering: between -1 / (tiles of a group - 1) and 0.
    order : Interval
        AUROC of `same` pairs against `channel` pairs.
    retrieval, chance : Interval
        Share of tiles that find themselves in another channel, in their group.
    dense, dense_chance : Interval
        The same for the patches of a tile, one patch off allowed.
    attention, attention_other : Interval
        Rank correlation of attention maps: same tile in two channels; other tile, same channel.
    spread, rank : float
        Of the CLS tokens, see `health`: low where the network has collapsed.
    """

    n_tiles: int
    n_groups: int
    same: Interval
    channel: Interval
    other: Interval
    margin: Interval
    centered_other: Interval
    order: Interval
    retrieval: Interval
    chance: Interval
    dense: Interval
    dense_chance: Interval
    attention: Interval
    attention_other: Interval
    spread: float
    rank: float

    def verdict(self) -> str:
        """One sentence; begins with Collapsed, Inconsistent, Undecided or Consistent."""
        if self.spread < LEAST_SPREAD:
            return (
                f"Collapsed: tiles hardly differ (spread {self.spread:.3f}, below {LEAST_SPREAD}), "
                f"so the cosine of {self.same.value:.3f} across channels means nothing."
            )
        shown = (
            f"margin {self.margin}, AUROC {self.order}, retrieval {self.retrieval} "
            f"(chance {self.chance.value:.3f})"
        )
        failed = self.margin.value <= 0 or self.retrieval.value <= self.chance.value
        if failed or self.order.value <= 0.5:
            return (
                f"Inconsistent: another tile in the same channel is as near as the same tile in "
                f"another channel; {shown}."
            )
        if self.n_groups == 1:
            return (
                f"Undecided: a single group has no interval; give fields of more plates; {shown}."
            )
        if not (self.margin.low > 0 and self.retrieval.low > self.chance.value):
            return f"Undecided: intervals over {self.n_groups} groups include no effect; {shown}."
        is_strong = self.order.low >= ORDER_AIM and self.same.value >= COSINE_AIM
        aims = f"cosine {self.same.value:.3f} of {COSINE_AIM}, AUROC {ORDER_AIM}"
        degree = f"and reaches the aims ({aims})" if is_strong else f"below the aims ({aims})"
        return f"Consistent, {degree}: the same tile is nearer than the same channel; {shown}."


def measure(tiles: Sequence[GalleryTile], features: Sequence[Embedded]) -> Consistency:
    """Compare channels of tiles, within groups of fields that have the same channels.

    Within groups only, because tiles of different plates are told apart by much else than the
    cells. Groups with one tile or one channel have nothing to compare.

    Raises
    ------
    ValueError
        If no group is left.
    """
    names = [f"{t.group} {'|'.join(t.channels)}" for t in tiles]
    counts = {name: names.count(name) for name in names}
    kept = [i for i, name in enumerate(names) if counts[name] > 1 and len(tiles[i].channels) > 1]
    if not kept:
        raise ValueError(
            f"Of {len(tiles)} tiles no two are of one group with two channels; give fields with "
            "several channels, or more tiles per field."
        )
    groups = [names[i] for i in kept]
    cls = [features[i].cls for i in kept]
    maps = [features[i].attention.mean(axis=1) for i in kept]
    grid = round(features[0].patches.shape[1] ** 0.5)
    dense = [agreement.dense_retrieval(features[i].patches, grid) for i in kept]

    def over_groups(per_tile: Sequence[Any], function: Any) -> Interval:
        return bootstrap(agreement.by_group(groups, per_tile, function))

    def triplet(which: int, *, is_centered: bool = False) -> Interval:
        def one(z: NDArray[Any]) -> float:
            z = agreement.centered(z) if is_centered else z
            return agreement.cosine_triplet(agreement.similarities(z))[which]

        return over_groups(cls, one)

    def margin(z: NDArray[Any]) -> float:
        cosines = agreement.similarities(agreement.centered(z))
        same, channel, _ = agreement.cosine_triplet(cosines)
        # n independent features minus their own mean have an expected cosine of -1 / (n - 1).
        return same - (channel + 1 / (len(z) - 1))

    def attention(which: int) -> Interval:
        return over_groups(
            maps, lambda m: agreement.cosine_triplet(agreement.rank_correlations(m))[which]
        )

    every = torch.from_numpy(np.concatenate([f.cls for f in features]))
    return Consistency(
        n_tiles=len(kept),
        n_groups=len(set(groups)),
        same=triplet(0),
        channel=triplet(1),
        other=triplet(2),
        margin=over_groups(cls, margin),
        centered_other=triplet(2, is_centered=True),
        order=over_groups(cls, lambda z: agreement.ordering(agreement.similarities(z))),
        retrieval=over_groups(cls, lambda z: agreement.retrieval(agreement.similarities(z))),
        chance=over_groups(cls, lambda z: 1 / len(z)),
        dense=over_groups([np.float64(hits) for hits, _ in dense], np.mean),
        dense_chance=over_groups([np.float64(chance) for _, chance in dense], np.mean),
        attention=attention(0),
        attention_other=attention(1),
        spread=feature_spread(every),
        rank=rank_me(every),
    )


def consistency_command(
    backbone: Annotated[str, typer.Argument(help="Backbone file or checkpoint.")],
    data: Annotated[list[str], typer.Argument(help="Manifests, folders of multi-channel TIFFs.")],
    baseline: Annotated[str | None, typer.Option(help="Backbone to compare with.")] = None,
    encoder: Annotated[str, typer.Option(help="Layout of files that do not tell it.")] = "vits8",
    channel: Annotated[
        list[str] | None, typer.Option(help="Look at these channels only; may be repeated.")
    ] = None,
    side: Annotated[int, typer.Option(help="Side of a tile, px.")] = 224,
    pixel_size_um: Annotated[float | None, typer.Option(help="Resample fields to it.")] = None,
    tiles_per_field: Annotated[int, typer.Option(help="At most.")] = 16,
    fields: Annotated[int, typer.Option(help="At most, spread over the data.")] = 200,
    split: Annotated[str, typer.Option(help="held-out or all.")] = "held-out",
    run_config: Annotated[
        Path | None,
        typer.Option(
            help="config.yaml of the run that made the backbone: its split, server and checks."
        ),
    ] = None,
    axes: Annotated[str | None, typer.Option(help="Of files that do not name theirs.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of label images: segment each channel, too.")
    ] = None,
    probe_steps: Annotated[int, typer.Option(help="Of the decoder that segments.")] = 300,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:n or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Measure whether features of one field agree across its channels, with controls."""
    settings = DataSettings(sources=tuple(data), axes=axes)
    if run_config is not None:
        base = load_config(SSLConfig, run_config).data
        settings = base.model_copy(update={"sources": settings.sources, "axes": axes or base.axes})
    training, held_out = open_fields(settings)
    if split not in ("held-out", "all"):
        raise ValueError(f"Split is {split!r}; choose held-out or all.")
    chosen = training if held_out is None or split == "all" else held_out
    left_out: tuple[str, ...] = ()
    if channel:
        names = {name for record in chosen for name in record.channels}
        if unknown := set(channel) - names:
            raise ValueError(
                f"No field has a channel {min(unknown)}; there are {', '.join(sorted(names))}."
            )
        left_out = tuple(names - set(channel))
    tiles = read_gallery(
        chosen,
        source_settings(settings),
        side=side,
        pixel_size_um=pixel_size_um,
        tiles_per_field=tiles_per_field,
        n_fields=fields,
        left_out=left_out,
    )
    place = resolve_device(device)
    reports, scores = {}, {}
    for name, path in (("backbone", backbone), ("baseline", baseline)):
        if path is not None:
            network = open_backbone(path, encoder).to(place)
            reports[name] = measure(tiles, embed(network, tiles))
            if labels is not None:
                scores[name] = channel_probe(
                    network, chosen, labels, source_settings(settings), place, steps=probe_steps
                )
    if as_json:
        content = {k: {**asdict(r), "verdict": r.verdict()} for k, r in reports.items()}
        for name, score in scores.items():
            content[name]["channel_op_csb"] = score.per_channel
        # JSON has no nan: an interval that does not exist is null.
        plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
        typer.echo(json.dumps(plain, indent=1))
        return
    for name, report in reports.items():
        typer.echo(f"{name}: {report.n_tiles} tiles in {report.n_groups} groups")
        for key, value in asdict(report).items():
            if isinstance(value, dict):
                typer.echo(f"  {key:<16} {Interval(**value)}")
        typer.echo(f"  spread {report.spread:.3f}, rank {report.rank:.1f}")
        if name in scores:
            typer.echo(f"  {scores[name]}")
        typer.echo(report.verdict())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(consistency_command, argv, "python -m napari_dinocell.core.pretrain.consistency")


if __name__ == "__main__":
    sys.exit(main())
