"""Crops per second of streaming from a bucket, the disk cache and memory, and what a run needs.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --fields 256 --batch 64 --threads 32 --processes 4
    python benchmarks/streaming.py --fields-of-run 3000000 --passes 4 --line-mb-s 110

The bucket is a real S3 server (SeaweedFS) on this machine: it has no latency and takes part of the
processor. Crops per second are R times the fields read per second, as in the middle of a long epoch;
the few fields here would be read twice in each of their short ones. CPU seconds are those of the
streaming process alone, and change little on a busy machine; crops per second do. The arithmetic
below the table uses the measured bytes and CPU seconds.
"""

import argparse
import importlib.util
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_dinocell.core.intensity import intensity_range
from napari_dinocell.core.stream.decode import decode
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.order import Order
from napari_dinocell.core.stream.processes import ProcessStream, open_stream
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.samples import TileSettings
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.stores import S3Settings, S3Store
from napari_dinocell.core.stream.stream import FieldStream

BUCKET = "public"
USD_PER_GB = 0.09  # AWS list price of data that leave a region; the sponsored bucket bills nobody


@dataclass(frozen=True)
class Measured:
    """One pass over the fields.

    Attributes
    ----------
    crops_per_s, mb_per_s
        Of the wall time; crops of the fields that were read, MB of what came from the store.
    cpu_s_per_field
        Of this process: where children read, what the training loop's process still pays.
    hit_rate
        Share of objects that came from the disk cache.
    """

    name: str
    crops_per_s: float
    mb_per_s: float
    cpu_s_per_field: float
    hit_rate: float

    def crops_per_cpu_s(self, tiles_per_field: int) -> float:
        """Crops that one core of this process can do."""
        return tiles_per_field / self.cpu_s_per_field


def load_server() -> ModuleType:
    """The tests' starter of the S3 server."""
    path = Path(__file__).parents[1] / "tests/core/stream/s3_server.py"
    spec = importlib.util.spec_from_file_location("s3_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plane(seed: int, side: int) -> NDArray[np.uint16]:
    """16-bit plane with blobs and camera noise."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter((rng.random((side, side)) > 0.9996).astype(np.float32), side / 90)
    return rng.poisson(300 + 30000 * blobs / blobs.max()).astype(np.uint16)


def upload(client: object, args: argparse.Namespace) -> Manifest:
    """Fields in the bucket; a few different planes are enough."""
    bodies = []
    for seed in range(8):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, plane(seed, args.side))
        bodies.append(buffer.getvalue())
    records = []
    names = tuple(f"channel {c}" for c in range(args.channels))
    for n in range(args.fields):
        keys = [f"plate/{n}-{c}.tif" for c in range(args.channels)]
        for c, key in enumerate(keys):
            client.put_object(Bucket=BUCKET, Key=key, Body=bodies[(n + c) % len(bodies)])
        addresses = tuple(f"s3://{BUCKET}/{key}" for key in keys)
        records.append(FieldRecord("", "", "plate", "", str(n), names, addresses))
    return Manifest(records)


def run_pass(
    name: str, stream: FieldStream | ProcessStream, order: Order, n_steps: int, warm_up: int
) -> Measured:
    """Take steps as fast as they come."""
    for _ in range(warm_up):
        next(stream)
    before = stream.counters.snapshot()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(n_steps):
        next(stream)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = {k: v - before.get(k, 0) for k, v in stream.counters.snapshot().items()}
    hits, misses = done.get("cache_hits", 0), done.get("cache_misses", 0)
    n_fields = done.get("fields", 0) or 1
    return Measured(
        name,
        n_fields * order.tiles_per_field / wall,
        done.get("bytes", 0) / 1e6 / wall,
        cpu / n_fields,
        hits / (hits + misses) if hits + misses else 0.0,
    )


def measure(manifest: Manifest, args: argparse.Namespace, url: str, folder: Path) -> list[Measured]:
    """From the bucket by threads and by processes, from the disk cache, and from memory."""
    base = SourceSettings(s3=S3Settings(endpoint_url=url), n_threads=args.threads)
    order = Order(manifest.shard_sizes(), seed=0, batch=args.batch, tiles_per_field=args.tiles)
    memory = args.fields * args.channels * args.side**2 * 2
    epoch = order.steps_per_epoch
    cases = (
        ("bucket", base, 0, 0),
        (f"{args.processes} processes", base, 1, args.processes),
        ("disk cache", replace(base, cache_folder=folder / "cache"), epoch, 0),
        ("memory", replace(base, memory_bytes=memory), epoch, 0),
    )
    found = []
    for name, source, warm_up, n in cases:
        tiles = TileSettings(side=args.tile)
        with open_stream(order, manifest, source, n_processes=n, tiles=tiles) as stream:
            found.append(run_pass(name, stream, order, args.steps, warm_up))
    return found


def cpu_of(work: Callable[[], object], repeats: int = 10) -> float:
    """CPU milliseconds of one call."""
    work()
    begin = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - begin) / repeats * 1e3


def parts(manifest: Manifest, url: str) -> None:
    """Print where the CPU seconds of a plane go."""
    store, address = S3Store(S3Settings(endpoint_url=url)), manifest[0].addresses[0]
    data = store.get(address).data
    pixels = decode(data, address)[0]
    print(
        f"CPU per plane of {len(data) / 1e6:.2f} MB: "
        f"get and check {cpu_of(lambda: store.get(address)):.1f} ms, "
        f"decode {cpu_of(lambda: decode(data, address)):.1f} ms, "
        f"percentiles and noise {cpu_of(lambda: intensity_range(pixels)):.1f} ms"
    )


def arithmetic(args: argparse.Namespace, bytes_per_field: float, cpu_s_per_field: float) -> None:
    """What a run over many fields needs, from the measured figures."""
    fetched = args.fields_of_run * args.passes
    crops = fetched * args.tiles
    steps = crops / args.batch
    gigabytes = fetched * bytes_per_field / 1e9
    print(f"\n{args.fields_of_run:,} fields, {args.passes:g} passes, {args.tiles} tiles of each:")
    print(f"  {crops / 1e6:,.1f} M tiles, {steps:,.0f} steps of {args.batch}")
    print(f"  {gigabytes:,.0f} GB from the bucket, {fetched * args.channels / 1e6:,.1f} M requests")
    for line in args.line_mb_s:
        hours = gigabytes * 1e3 / line / 3600
        print(f"  {hours:,.0f} h at {line:g} MB/s: {steps / hours / 3600:.2f} steps/s")
    cores = [f"{n}: {cpu_s_per_field * fetched / n / 3600:,.0f} h" for n in (8, 16, 64)]
    print(f"  CPU time over cores: {', '.join(cores)}")
    print(
        f"  ${gigabytes * USD_PER_GB:,.0f} at list price where the reader pays; "
        "$0 from the sponsored public bucket"
    )


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fields", type=int, default=32)
    parser.add_argument("--side", type=int, default=1080, help="px of a field")
    parser.add_argument("--channels", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tiles", type=int, default=8, help="of each field")
    parser.add_argument("--tile", type=int, default=320, help="px of a tile")
    parser.add_argument("--steps", type=int, default=8, help="measured")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--fields-of-run", type=int, default=3_000_000)
    parser.add_argument("--passes", type=float, default=1.0)
    parser.add_argument("--line-mb-s", type=float, nargs="+", default=[110.0, 300.0, 1000.0])
    return parser.parse_args(argv)


def main() -> None:
    args = parse()
    folder = Path(tempfile.mkdtemp(prefix="streaming-"))
    server = load_server().S3Server(folder / "s3")
    try:
        server.start()
        manifest = upload(server.client(), args)
        parts(manifest, server.url)
        found = measure(manifest, args, server.url, folder)
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"\n{'from':<14}{'crops/s':>9}{'MB/s':>8}{'CPU s/field':>13}{'crops/CPU s':>13}{'hits':>7}"
    )
    for row in found:
        print(
            f"{row.name:<14}{row.crops_per_s:9.0f}{row.mb_per_s:8.0f}{row.cpu_s_per_field:13.3f}"
            f"{row.crops_per_cpu_s(args.tiles):13.0f}{row.hit_rate:7.0%}"
        )
    size = args.channels * (args.side**2 * 2 + 500)
    arithmetic(args, size, found[0].cpu_s_per_field)


if __name__ == "__main__":
    main()
