import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys

import pytest

from napari_dinocell.core.stream.jump import main
from napari_dinocell.core.stream.listing import tables_below
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.stores import S3Settings

PROJECT = "s3://public/cpg0016-jump"
STAINS = ("AGP", "DNA", "ER", "Mito", "RNA")


def table(source: str, batch: str, plate: str, n: int, stains=STAINS) -> bytes:
    """load_data with n fields, as the gallery has it."""
    rows = []
    for site in range(1, n + 1):
        folder = f"s3://cellpainting-gallery/cpg0016-jump/{source}/images/{batch}/images/{plate}__T"
        row = {f"URL_Orig{s}": f"{folder}/Images/f{site} {s}.tiff" for s in stains}
        row |= {"Metadata_Source": source, "Metadata_Batch": batch, "Metadata_Plate": plate}
        rows.append(row | {"Metadata_Well": "A01", "Metadata_Site": str(site)})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


PLATES = [
    ("source_1", "B 1", "000123", 3),
    ("source_1", "B2", "P2", 4),
    ("source_2", "B1", "P3", 5),
]
ENDINGS = ("load_data.csv.gz", "load_data_with_illum.csv", "load_data.csv")


@pytest.fixture
def plates(s3_server, tmp_path) -> str:
    """Table of plates, with those tables in the bucket."""
    client = s3_server.client()
    for (source, batch, plate, n), name in zip(PLATES, ENDINGS, strict=True):
        data = table(source, batch, plate, n)
        key = f"cpg0016-jump/{source}/workspace/load_data_csv/{batch}/{plate}/{name}"
        data = gzip.compress(data) if name.endswith("gz") else data
        client.put_object(Bucket="public", Key=key, Body=data)
    path = tmp_path / "plate.csv.gz"
    lines = ["Metadata_Source,Metadata_Batch,Metadata_Plate,Metadata_PlateType"]
    kinds = ("COMPOUND", "ORF", "COMPOUND")
    lines += [f"{s},{b},{p},{kind}" for (s, b, p, _), kind in zip(PLATES, kinds, strict=True)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return str(path)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_manifest_is_built_from_the_tables_of_plates(plates, proxy, tmp_path, capsys):
    out = tmp_path / "jump.parquet"
    code = run("manifest", out, "--plates", plates, "--project", PROJECT, "--endpoint", proxy.url)
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    manifest = Manifest.read(out)
    assert report["fields"] == len(manifest) == 12
    assert report["sha256"] == manifest.sha256
    assert "source_1/B 1/000123/A01/1" in [record.id for record in manifest]
    assert manifest[0].channels == ("DNA", "ER", "RNA", "AGP", "Mito")
    assert manifest[0].addresses[0].startswith("s3://cellpainting-gallery/cpg0016-jump/source_1/")
    assert sum(proxy.requests.values()) < 20  # tables are asked for by name, nothing is listed
    assert run("summary", out) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["source_1"] == {
        "fields": 7,
        "planes": 35,
        "plates": 2,
        "channels": {"DNA|ER|RNA|AGP|Mito": 7},
    }


def test_a_build_that_failed_goes_on_with_what_is_missing(plates, proxy, tmp_path, capsys, caplog):
    out = tmp_path / "jump.parquet"
    command = ("manifest", out, "--plates", plates, "--project", PROJECT, "--endpoint", proxy.url)
    proxy.break_always("P3/load_data.csv", "slow down")
    proxy.break_always("P3/load_data_with_illum.parquet", "slow down")
    assert run(*command, "--tries", 2) == 1  # some failed
    assert json.loads(capsys.readouterr().out)["tables_not_read"] == 1
    assert len(Manifest.read(out)) == 7
    before = sum(proxy.requests.values())
    for key in ("P3/load_data.csv", "P3/load_data_with_illum.parquet"):
        proxy.break_always(key, None)
    assert run(*command) == 0
    assert len(Manifest.read(out)) == 12
    assert sum(proxy.requests.values()) - before == 6  # the six names that P3's table may have


def test_a_table_that_was_corrected_is_read_anew_by_the_next_build(tmp_path):
    data = table("source_9", "B", "P", 2)
    (tmp_path / "load_data.csv").write_bytes(data)
    out = tmp_path / "m.parquet"
    assert run("manifest", out, tmp_path / "load_data.csv") == 0
    assert not (tmp_path / "m.parquet.parts").exists()
    (tmp_path / "load_data.csv").write_bytes(data.replace(b"/images/P__T/", b"/images/P__NEW/"))
    assert run("manifest", out, tmp_path / "load_data.csv") == 0
    assert "/images/P__NEW/" in Manifest.read(out)[0].addresses[0]


def test_a_killed_build_goes_on_where_it_was(plates, proxy, tmp_path):
    out = tmp_path / "jump.parquet"
    command = [sys.executable, "-m", "napari_dinocell.core.stream.jump", "manifest", str(out)]
    command += ["--plates", plates, "--project", PROJECT, "--endpoint", proxy.url, "--threads", "1"]
    proxy.break_always("P3/load_data_with_illum.parquet", "stall")
    process = subprocess.Popen(command)
    while (
        proxy.requests[
            "cpg0016-jump/source_2/workspace/load_data_csv/B1/P3/load_data_with_illum.parquet"
        ]
        == 0
    ):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert len(list((tmp_path / "jump.parquet.parts").iterdir())) == 2
    proxy.break_always("P3/load_data_with_illum.parquet", None)
    before = proxy.requests.copy()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(Manifest.read(out)) == 12
    asked_again = proxy.requests - before
    assert all("P3" in key for key in asked_again)


@pytest.mark.parametrize(
    ("options", "n"),
    [
        (("--source", "source_2"), 5),
        (("--batch", "B 1", "--batch", "B1"), 8),
        (("--plate-type", "COMPOUND"), 8),
        (("--least-stains", 5), 12),
    ],
)
def test_plates_are_chosen_by_source_batch_and_type(plates, s3_server, tmp_path, options, n):
    out = tmp_path / "some.parquet"
    place = ("--plates", plates, "--project", PROJECT, "--endpoint", s3_server.url)
    assert run("manifest", out, *place, *options) == 0
    assert len(Manifest.read(out)) == n


def test_tables_below_a_prefix_are_found_by_listing_that_prefix_alone(plates, s3_server, tmp_path):
    out = tmp_path / "all.parquet"
    prefix = f"{PROJECT}/source_1/workspace/load_data_csv/"
    assert run("manifest", out, prefix, "--endpoint", s3_server.url, "--project", PROJECT) == 0
    assert len(Manifest.read(out)) == 7


def test_of_the_tables_of_one_plate_the_best_is_taken(s3_server, proxy, tmp_path):
    client = s3_server.client()
    for name in ("load_data.csv", "load_data_with_illum.csv", "load_data.csv.gz", "other.csv"):
        client.put_object(Bucket="public", Key=f"best/P1/{name}", Body=b"x")
        (tmp_path / "P1").mkdir(exist_ok=True)
        (tmp_path / "P1" / name).write_bytes(b"x")
    settings = S3Settings(endpoint_url=proxy.url)
    best = ["s3://public/best/P1/load_data_with_illum.csv"]
    assert tables_below("s3://public/best/", settings) == best
    assert tables_below(str(tmp_path), settings) == [str(tmp_path / "P1/load_data_with_illum.csv")]
    with pytest.raises(FileNotFoundError, match="no load_data table"):
        tables_below("s3://public/nothing/", settings)


def test_local_tables_of_local_images_need_no_bucket(tmp_path, capsys):
    data = table("source_9", "B", "P", 2).replace(b"s3://cellpainting-gallery", b"/mnt/jump")
    (tmp_path / "load_data.csv").write_bytes(data)
    out = tmp_path / "m.parquet"
    assert run("manifest", out, tmp_path / "load_data.csv", "--replace", "/mnt/jump=/data") == 0
    assert Manifest.read(out)[0].addresses[0].startswith("/data/cpg0016-jump/source_9/")
    twice = [tmp_path / "load_data.csv", tmp_path / "copy.csv"]
    twice[1].write_bytes(data)
    capsys.readouterr()
    assert run("manifest", tmp_path / "n.parquet", *twice) == 0
    assert json.loads(capsys.readouterr().out)["fields_listed_twice"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "either load_data tables or --plates"),
        (("none.csv",), "None of 1 tables"),
        (("x.csv", "--replace", "nonsense"), "is not OLD=NEW"),
    ],
)
def test_wrong_usage_is_a_sentence_and_no_file(tmp_path, capsys, arguments, sentence):
    assert run("manifest", tmp_path / "m.parquet", *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "m.parquet").exists()


def test_the_command_lists_its_parts(capsys):
    assert main(["--help"]) == 0
    assert main([]) == 2
    assert "manifest, summary" in capsys.readouterr().err
