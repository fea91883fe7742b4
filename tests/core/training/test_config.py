from pathlib import Path

import pytest
import yaml

from napari_dinocell.core.training.config import (
    Config,
    dump_config,
    key_paths,
    load_config,
    shipped_configs,
)

SOURCE = Path(__file__).parents[3] / "src" / "napari_dinocell" / "core"
MINIMAL = {"name": "m", "out": "runs/m", "data": {"source": "data"}}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL), encoding="utf-8")
    return path


def test_overrides_change_values_and_sections(config_file):
    config = load_config(Config, config_file, ["steps=7", "crops.size=64", "data.sets={a: 2}"])
    assert (config.steps, config.crops.size, config.data.sets) == (7, 64, {"a": 2.0})


def test_a_section_that_the_file_lacks_can_be_given_by_overrides(config_file):
    config = load_config(Config, config_file, ["distill.teacher=t", "distill.weight=0.25"])
    assert config.distill is not None
    assert config.distill.weight == 0.25


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("optimiser.lr=1", "optimizer.lr"), ("stepz=3", "steps"), ("crops.sise=8", "crops.size")],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(config_file, override, nearest):
    with pytest.raises(ValueError, match=rf"Unknown setting .* '{nearest}'"):
        load_config(Config, config_file, [override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps=0", "steps"),
        ("crops.size=100", "multiple of 8"),
        ("crops.cache=x", "pool"),
        ("nonsense", "key=value"),
        ("name.x=1", "not a section"),
        ("wandb=sometimes", "wandb"),
    ],
)
def test_a_value_that_is_not_allowed_is_one_sentence(config_file, override, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_config(Config, config_file, [override])
    assert "\n" not in str(caught.value)


def test_absent_and_broken_files_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no configuration file"):
        load_config(Config, tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1", encoding="utf-8")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(Config, broken)
    broken.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected a mapping"):
        load_config(Config, broken)


def test_a_dumped_configuration_reads_back_equal(config_file, tmp_path):
    config = load_config(Config, config_file, ["optimizer.betas=[0.8, 0.9]", "distill.teacher=t"])
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(Config, again) == config


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_configuration_loads(name):
    assert load_config(Config, shipped_configs()[name]).name


def test_every_setting_is_read_somewhere():
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in SOURCE.rglob("*.py")
        if path.name != "config.py"
    )
    unread = [key for key in key_paths(Config) if f".{key.rpartition('.')[2]}" not in code]
    assert unread == []
