import csv
import gzip
import io
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from napari_dinocell.core.stream.load_data import Places, read_table, records_from_table
from napari_dinocell.core.stream.records import FieldRecord

TABLES = Path(__file__).with_name("tables")
BUCKET = Places("s3://cellpainting-gallery")
EIGHT = ("DNA", "ER", "RNA", "AGP", "Mito", "Brightfield", "Brightfield_H", "Brightfield_L")


def fields(name: str, places: Places = BUCKET, **options) -> list[FieldRecord]:
    path = TABLES / name
    return list(records_from_table(read_table(path.read_bytes(), name), places, **options))


def numbers(field: FieldRecord) -> list[str]:
    """Which of the microscope's channels each address is of."""
    return [address.partition("-ch")[2][0] for address in field.addresses]


def test_the_columns_of_cpg0016_give_eight_channels_in_one_order():
    (field,) = fields("gallery_urls.csv")
    assert field.id == "source_4/2021_04_26_Batch1/BR00117035/A01/1"
    assert field.channels == EIGHT
    assert numbers(field) == ["5", "4", "3", "2", "1", "8", "6", "7"]
    assert field.addresses[0] == (
        "s3://cellpainting-gallery/cpg0016-jump/source_4/images/2021_04_26_Batch1/images/"
        "BR00117035__2021-05-02T16_02_51-Measurement1/Images/r01c01f01p01-ch5sk1fk1fl1.tiff"
    )
    assert field.pixel_size_um == pytest.approx(0.598, abs=1e-4)
    assert field.kinds == ("fluorescence",) * 5 + ("brightfield",) * 3


def test_a_list_of_images_gives_the_same_field_as_the_table_of_fields():
    by_image, other = fields("image_list.csv")
    (by_field,) = fields("gallery_urls.csv")
    assert by_image.addresses == by_field.addresses
    assert by_image.channels == by_field.channels == other.channels
    assert by_image.id == by_field.id != other.id


def test_keys_without_bucket_get_it_and_tell_source_and_batch():
    one, two = fields("keys_without_bucket.csv")
    assert one.id == "source_4/2020_06_19_Stain2_Batch1/BR00113255/A01/1"
    assert two.site == "2"
    assert one.channels == ("DNA", "ER", "RNA", "AGP", "Mito", "Brightfield")
    assert one.addresses[0].startswith("s3://cellpainting-gallery/cpg0001-cellpainting-protocol/")


def test_the_pilot_has_its_own_names_for_brightfield_and_folders_of_another_machine():
    start = "/home/ubuntu/local_input/projects/2019_07_11_JUMP-CP"
    places = Places(replace=((start, "s3://bucket/pilot"),))
    (field,) = fields("analysis_machine.csv", places)
    assert field.channels == EIGHT  # HighZBF and LowZBF are the planes called _H and _L elsewhere
    assert numbers(field)[-3:] == ["8", "6", "7"]
    assert field.addresses[0].startswith("s3://bucket/pilot/2020_11_04_CPJUMP1/images/BR00117006__")
    assert not any("Illum" in address for address in field.addresses)
    (unchanged,) = fields("analysis_machine.csv")
    assert unchanged.addresses[0].startswith("/home/ubuntu/")


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("phenix_v5.csv", ("ER", "RNA", "AGP", "Mito", "Brightfield", "DPC"), 0.598),
        (
            "phenix_v7.csv",
            ("DNA", "ER", "RNA", "AGP", "Mito", "Actin", "Brightfield"),
            0.2967,
        ),
    ],
)
def test_other_stains_and_pixel_sizes_are_taken_from_the_table(name, channels, size):
    field = fields(name, Places("/data"))[0]
    assert field.channels == channels
    assert field.addresses[0].startswith("/data/tests/data/Version")
    assert "//" not in field.addresses[0]
    assert field.pixel_size_um == pytest.approx(size, abs=1e-4)
    assert field.kinds[-1] == "brightfield"


def test_fields_with_too_few_stains_are_left_out():
    assert fields("phenix_v5.csv", least_stains=5) == []
    assert len(fields("phenix_v7.csv", least_stains=6)) == len(fields("phenix_v7.csv"))


KEYS = (TABLES / "image_keys.txt").read_text().splitlines()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.split("/")[1])
def test_a_key_of_each_source_tells_its_source_and_batch(key):
    """Also the one with a space, and those of microscopes whose names cannot be guessed."""
    folder, _, name = key.rpartition("/")
    row = {
        "FileName_OrigDNA": name,
        "PathName_OrigDNA": folder,
        "Metadata_Plate": "000123",
        "Metadata_Well": "A01",
        "Metadata_Site": "1",
    }
    (field,) = records_from_table([row], BUCKET)
    assert field.addresses == (f"s3://cellpainting-gallery/{key}",)
    assert field.source == key.split("/")[1]
    assert field.batch == key.split("/")[3]
    assert field.plate == "000123"
    assert 0.5 < field.pixel_size_um < 0.75


def test_a_table_reads_the_same_as_csv_gzip_and_parquet():
    rows = [
        {"Metadata_Plate": "000123", "Metadata_Site": "1", "FileName_OrigDNA": "å b.tiff", "n": ""},
        {"Metadata_Plate": "000123", "Metadata_Site": "2", "FileName_OrigDNA": "", "n": "7"},
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    data = ("\ufeff" + text.getvalue()).encode()
    assert read_table(data, "x.csv") == rows
    assert read_table(gzip.compress(data), "x.csv.gz") == rows
    # In Parquet sites are numbers, and a column of integers with a gap is one of floats.
    columns = {"Metadata_Plate": ["000123"] * 2, "Metadata_Site": [1, 2]}
    columns |= {"FileName_OrigDNA": ["å b.tiff", None], "n": [None, 7.0]}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    assert read_table(buffer.getvalue(), "x.parquet") == rows


@pytest.mark.parametrize("name", ["x.parquet", "x.csv.gz", "x.csv"])
def test_a_damaged_table_is_told_by_name(name):
    data = gzip.compress(b"a,b\n" * 99)[:20] if name.endswith("gz") else b"\xff\xfe\0PAR1 \x80"
    with pytest.raises(ValueError, match=f"{name} cannot be read as a table"):
        read_table(data, name)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"Plate": "x"}, "no URL_Orig"),
        ({"URL_OrigDNA": "s3://b/k", "Metadata_Plate": "P", "Metadata_Well": "A01"}, "site ''"),
        ({"URL_OrigDNA": "https://host/k.tif", "Metadata_Plate": "P"}, "neither a path nor"),
    ],
)
def test_tables_that_do_not_tell_a_field_are_refused_in_a_sentence(row, sentence):
    with pytest.raises(ValueError, match=sentence):
        list(records_from_table([row], table="some.csv"))


@pytest.mark.shared
def test_all_real_samples_of_tables_are_read_whole():
    root = os.environ.get("DINOCELL_DATA")
    if root is None:
        pytest.skip("needs the data folder named by DINOCELL_DATA")
    folder = Path(root) / "multichannel" / "jump_manifest_samples"
    counts = {}
    for path in sorted(folder.glob("*.csv")) + sorted(folder.glob("*.parquet")):
        rows = read_table(path.read_bytes(), path.name)
        found = list(records_from_table(rows, BUCKET, table=str(path)))
        counts[path.name] = len(found), sum(len(field.channels) for field in found)
        assert len({field.id for field in found}) == len(found)
    assert counts["cpg0001_load_data.csv"] == (13, 13 * 6)
    assert counts["nfcore_samplesheet_keys.csv"][1] == 48
    assert counts["cpjump1_load_data_with_illum.parquet"] == (1, 8)
    assert counts["cpjump1_load_data_with_illum.csv"] == (1, 8)
