"""Build the manifest of a plate collection once, so that no run has to list its images.

python -m napari_dinocell.core.stream.jump manifest jump.parquet --plates plate.csv.gz
python -m napari_dinocell.core.stream.jump manifest my.parquet s3://bucket/load_data_csv/
python -m napari_dinocell.core.stream.jump summary jump.parquet

A plate is one small table in the bucket (JUMP has 2500 of them; listing its 58 million images
would take 58 000 requests). Each plate is written to ``jump.parquet.parts`` as soon as it is read,
so the command goes on where it was stopped; they are removed when the manifest has them all, so that
a later build reads its tables anew.
"""

import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core.console import BAD_USAGE, DONE, SOME_FAILED, run

from .fetch import RetryPolicy, fetch_bytes
from .listing import TABLE_NAMES, tables_below
from .load_data import Places, Row, read_table, records_from_table
from .manifest import Manifest, read_records, write_records
from .records import FieldRecord
from .stores import FetchError, S3Settings, Stores

_log = logging.getLogger(__name__)


def manifest(
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="load_data files, or folders of them that end with a slash."),
    ] = None,
    plates: Annotated[
        str | None,
        typer.Option(help="Table of plates: Metadata_Source, Metadata_Batch, Metadata_Plate."),
    ] = None,
    project: Annotated[
        str, typer.Option(help="Where the plates lie.")
    ] = "s3://cellpainting-gallery/cpg0016-jump",
    source: Annotated[list[str] | None, typer.Option(help="Only this source; repeat it.")] = None,
    batch: Annotated[list[str] | None, typer.Option(help="Only this batch; repeat it.")] = None,
    plate_type: Annotated[
        list[str] | None, typer.Option(help="Only this Metadata_PlateType; repeat it.")
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Put before relative paths; default: the project's bucket.")
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW beginning of paths, such as those of the original machines."),
    ] = None,
    least_stains: Annotated[
        int, typer.Option(help="Leave out fields with fewer fluorescence channels.")
    ] = 2,
    endpoint: Annotated[str | None, typer.Option(help="URL of an S3 store other than AWS.")] = None,
    signed: Annotated[bool, typer.Option(help="Use credentials of the environment.")] = False,
    etag_md5: Annotated[
        bool, typer.Option(help="An ETag of 32 digits is the MD5 of the bytes.")
    ] = True,
    threads: Annotated[int, typer.Option(help="Tables fetched at once.")] = 16,
    tries: Annotated[int, typer.Option(help="Requests for one table before it is left out.")] = 5,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> int:
    """Build a manifest from the load_data tables of plates; goes on where it was stopped."""
    s3 = S3Settings(
        endpoint_url=endpoint, is_signed=signed, is_etag_md5=etag_md5, n_connections=threads
    )
    stores = Stores(s3)
    if bool(tables) == bool(plates):
        raise ValueError("Give either load_data tables or --plates.")
    if plates:
        rows = read_table(fetch_bytes(stores, plates), plates)
        wanted = {"Source": source, "Batch": batch, "PlateType": plate_type}
        jobs = [_candidates(row, project) for row in rows if _matches(row, wanted)]
    else:
        jobs = [(table,) for given in tables or () for table in _expand(given, s3)]
    if not jobs:
        raise ValueError("No plate matches; check --source, --batch and --plate-type.")
    bucket = "/".join(project.split("/")[:3]) if project.startswith("s3://") else project
    places = Places(bucket if root is None else root, _pairs(replace or []))
    read = partial(
        _read_first, stores, RetryPolicy(n_tries=tries), places=places, least_stains=least_stains
    )
    parts = out.with_name(f"{out.name}.parts")
    built = _build_parts(read, jobs, repr((places, least_stains)), parts, threads)
    if not built:
        raise ValueError(f"None of {len(jobs)} tables could be read; see the messages above.")
    n_twice, records = _merge(built)
    result = Manifest(records)
    result.write(out)
    is_whole = len(built) == len(jobs)
    if is_whole:
        shutil.rmtree(parts)
    report = {
        "manifest": str(out),
        "fields": len(result),
        "tables": len(built),
        "tables_not_read": len(jobs) - len(built),
        "fields_listed_twice": n_twice,
        "sha256": result.sha256,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return DONE if is_whole else SOME_FAILED


def _expand(given: str, s3: S3Settings) -> list[str]:
    is_folder = given.endswith("/") or (not given.startswith("s3://") and Path(given).is_dir())
    return tables_below(given, s3) if is_folder else [given]


def _build_parts(
    read: Callable[[tuple[str, ...]], list[FieldRecord]],
    jobs: Sequence[tuple[str, ...]],
    options: str,
    parts: Path,
    n_threads: int,
) -> list[str]:
    """Write the fields of each table to a file of its own, unless it is there; the files."""
    parts.mkdir(parents=True, exist_ok=True)

    def build(job: tuple[str, ...]) -> str | None:
        part = parts / sha256(f"{job} {options}".encode()).hexdigest()[:24]
        if not part.exists():
            try:
                records = read(job)
            except (FetchError, ValueError) as error:
                _log.error("%s", error)
                return None
            write_records(part, records)
        return str(part)

    built = []
    pool = ThreadPoolExecutor(n_threads)
    try:
        for n, part in enumerate(pool.map(build, jobs), 1):
            built += [part] if part else []
            if n % 100 == 0:
                _log.info("%d of %d plates", n, len(jobs))
    finally:  # when it is interrupted, too: begin no further table
        pool.shutdown(cancel_futures=True)
    return built


def summary(
    path: Annotated[Path, typer.Argument(help="Manifest, Parquet.")],
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Count fields, planes, plates and channels per source, as JSON."""
    fields: Counter[str] = Counter()
    planes: Counter[str] = Counter()
    plates: dict[str, set[str]] = {}
    channels: dict[str, Counter[str]] = {}
    for record in read_records(path):
        fields[record.source] += 1
        planes[record.source] += len(record.channels)
        plates.setdefault(record.source, set()).add(record.plate_id)
        channels.setdefault(record.source, Counter())["|".join(record.channels)] += 1
    report = {
        source: {
            "fields": fields[source],
            "planes": planes[source],
            "plates": len(plates[source]),
            "channels": dict(channels[source]),
        }
        for source in sorted(fields)
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def _candidates(row: Row, project: str) -> tuple[str, ...]:
    levels = [row.get(f"Metadata_{name}", "") for name in ("Source", "Batch", "Plate")]
    if not all(levels):
        raise ValueError("The table of plates needs Metadata_Source, _Batch and _Plate everywhere.")
    source, batch, plate = levels
    folder = f"{project.rstrip('/')}/{source}/workspace/load_data_csv/{batch}/{plate}"
    return tuple(f"{folder}/{name}" for name in TABLE_NAMES)


def _matches(row: Row, wanted: dict[str, list[str] | None]) -> bool:
    return all(not values or row.get(f"Metadata_{k}") in values for k, values in wanted.items())


def _pairs(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    split = [text.partition("=") for text in texts]
    if wrong := [
        text for text, (old, equals, _) in zip(texts, split, strict=True) if not old or not equals
    ]:
        raise ValueError(f"--replace {wrong[0]} is not OLD=NEW.")
    return tuple((old, new) for old, _, new in split)


def _read_first(
    stores: Stores, policy: RetryPolicy, job: tuple[str, ...], *, places: Places, least_stains: int
) -> list[FieldRecord]:
    """Fields of the first table of the job that exists."""
    for address in job:
        try:
            data = fetch_bytes(stores, address, policy)
        except FetchError as error:
            if error.kind != "not found" or address == job[-1]:
                raise
            continue
        rows = read_table(data, address)
        return list(records_from_table(rows, places, table=address, least_stains=least_stains))
    raise AssertionError("a job has at least one address")


def _merge(parts: Sequence[str]) -> tuple[int, list[FieldRecord]]:
    """All fields, each once; the number of those that were listed again."""
    kept: dict[str, FieldRecord] = {}
    n_rows = 0
    for record in _all_records(parts):
        n_rows += 1
        kept.setdefault(record.id, record)
    return n_rows - len(kept), list(kept.values())


def _all_records(parts: Sequence[str]) -> Iterator[FieldRecord]:
    for part in parts:
        yield from read_records(part)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[..., int | None]] = {"manifest": manifest, "summary": summary}
    if not arguments or arguments[0] not in commands:
        sys.stderr.write(f"{__doc__}\nCommands: {', '.join(commands)}; each has --help.\n")
        return DONE if arguments[:1] in (["--help"], ["-h"]) else BAD_USAGE
    prog = f"python -m napari_dinocell.core.stream.jump {arguments[0]}"
    return run(commands[arguments[0]], arguments[1:], prog)


if __name__ == "__main__":
    sys.exit(main())
