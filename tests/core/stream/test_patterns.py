import re
from pathlib import Path

import pytest

from napari_dinocell.core.stream.patterns import PRESETS, compile_pattern, records_from_names

KEYS = (Path(__file__).with_name("tables") / "image_keys.txt").read_text().splitlines()


def match(preset: str, key: str) -> re.Match[str] | None:
    return compile_pattern(preset).fullmatch(key)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.split("/")[1])
def test_a_real_key_of_each_source_fits_one_preset(key):
    fitting = [preset for preset in PRESETS if match(preset, key)]
    assert len(fitting) == 1
    found = match(fitting[0], key).groupdict()
    name = key.rpartition("/")[2]
    assert int(found["channel"]) == int(re.search(r"(?:-ch|C|_w)0?(\d)(?!.*C0\d)", name)[1])
    assert int(found["site"]) == 1
    well = found.get("well") or f"{found['row']}:{found['column']}"
    assert well in ("A01", "01:01", "01:02")


def record_of(folder: Path, *names: str, pattern: str, **options):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return records_from_names(folder, compile_pattern(pattern), **options)


def test_a_phenix_folder_gives_plate_well_site_and_named_channels(tmp_path):
    images = "BR00117035__2021-05-02T16_02_51-Measurement 1/Images"
    names = [f"{images}/r16c03f09p01-ch{c}sk1fk1fl1.tiff" for c in (5, 1, 8)]
    channels = {"5": "DNA", "1": "Mito", "8": "Brightfield"}
    (field,) = record_of(
        tmp_path, *names, f"{images}/Index.idx.xml", pattern="phenix", names=channels
    )
    assert (field.plate, field.well, field.site) == (images.partition("/")[0], "P03", "09")
    assert field.channels == ("DNA", "Mito", "Brightfield")
    assert [Path(a).name[13:16] for a in field.addresses] == ["ch5", "ch1", "ch8"]


def test_plates_with_equal_file_names_do_not_mix(tmp_path):
    # A key without the plate once joined all plates of a batch into one field.
    names = [f"plate{p}/Images/r01c01f01p01-ch{c}sk1fk1fl1.tiff" for p in (1, 2) for c in (1, 2)]
    fields = record_of(tmp_path, *names, pattern="phenix")
    assert [field.plate for field in fields] == ["plate1", "plate2"]
    for field in fields:
        assert [Path(a).parts[-3] for a in field.addresses] == [field.plate] * 2


def test_each_depth_and_time_is_a_field_of_its_own(tmp_path):
    names = [
        f"P_A01_T{t:04}F001L01A01Z{z:02}C0{c}.tif" for t in (1, 2) for z in (1, 2) for c in (1, 2)
    ]
    fields = record_of(tmp_path, *names, pattern="yokogawa")
    assert [field.site for field in fields] == [
        "001",
        "001 depth 02",
        "001 time 0002",
        "001 time 0002 depth 02",
    ]
    assert {field.channels for field in fields} == {("01", "02")}


def test_thumbnails_of_the_imagexpress_are_no_channels(tmp_path):
    guid = "33EFC51B3-6F57-4273-AFE3-BAA0781C8ACF"[1:]
    names = [f"A1170383/HTS_A01_s1_w2{guid}.tif", f"A1170383/HTS_A01_s1_w2_thumb{guid}.tif"]
    (field,) = record_of(tmp_path, *names, pattern="imagexpress")
    assert (field.plate, field.channels) == ("A1170383", ("2",))


def test_a_template_says_where_each_part_stands(tmp_path):
    names = [f"batch A/plate.1/B02-s{s} ({c}) x{s}.tif" for s in (1, 2) for c in ("GFP", "DAPI")]
    fields = record_of(tmp_path, *names, pattern="{batch}/{plate}/{well}-s{site} ({channel}) *.tif")
    assert [f.id for f in fields] == [f"/batch A/plate.1/B02/{s}" for s in (1, 2)]
    assert fields[0].channels == ("DAPI", "GFP")
    assert [Path(a).is_file() for f in fields for a in f.addresses] == [True] * 4


def test_rows_and_columns_become_wells():
    pattern = compile_pattern("{row}_{column}_{channel}.tif")
    paths = [Path("/x") / f"{row}_{column}_1.tif" for row, column in ((1, 1), (26, 2), (27, 48))]
    wells = [f.well for f in records_from_names(Path("/x"), pattern, paths=paths)]
    assert wells == ["A01", "Z02", "AA48"]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("{well}_{site}.tif", r"where the \{channel\} stands"),
        ("{well}_{chanel}.tif", r"has \{chanel\}; use each"),
        ("{channel}_{channel}.tif", "at most once"),
        ("{channel.tif", r"has \{;"),
    ],
)
def test_a_wrong_template_is_refused_with_the_names_that_exist(pattern, sentence):
    with pytest.raises(ValueError, match=sentence):
        compile_pattern(pattern)


def test_two_files_for_one_channel_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"A1_b_1\.tif.*same channel of the same field"):
        record_of(tmp_path, "A1_a_1.tif", "A1_b_1.tif", pattern="{well}_*_{channel}.tif")


def test_a_folder_without_a_match_is_told(tmp_path):
    with pytest.raises(ValueError, match="No file below"):
        record_of(tmp_path, "notes.txt", pattern="phenix")
