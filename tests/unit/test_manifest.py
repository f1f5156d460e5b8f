from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ManifestError, ModelAlteredError, ModelMissingError
from models.manifest import (
    FEATURES,
    INDICES,
    MANIFEST,
    find_entry,
    load_features,
    load_manifest,
)
from models.store import (
    default_cache_dir,
    expected_files,
    forecast_head,
    locate,
    sha256_file,
    state,
)
from tests.standin_models import entry


def test_there_is_one_model_for_each_index_with_the_width_of_the_index() -> None:
    widths = {model.index: model.dimension for model in load_manifest()}
    assert widths == {"timeseries": 512, "semantic": 384, "attack": 256}
    assert set(widths) == set(INDICES)


def test_every_graph_in_the_package_has_the_digest_of_the_manifest() -> None:
    for model in load_manifest():
        assert sha256_file(model.artefact) == model.sha256, model.name


def test_the_head_for_forecasts_is_checked_before_it_is_used(tmp_path: Path) -> None:
    series = find_entry("timeseries")
    head = forecast_head(series)
    assert head is not None
    assert head not in expected_files(series)  # what the service opens
    altered = replace(series, folder=tmp_path)
    with pytest.raises(ModelMissingError, match=r"forecast\.onnx is not there"):
        forecast_head(altered)
    (tmp_path / head.name).write_bytes(head.read_bytes() + b"x")
    with pytest.raises(ModelAlteredError, match=r"forecast\.onnx has SHA-256"):
        forecast_head(altered)
    assert forecast_head(find_entry("attack")) is None


def test_every_model_has_a_card_that_names_it() -> None:
    for model in load_manifest():
        assert model.licence
        assert (MANIFEST.parent / model.card).read_text(encoding="utf-8").strip()


def test_a_model_is_found_by_its_name_and_by_its_index() -> None:
    assert find_entry("minilm") is find_entry("semantic")


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ManifestError, match=r"no model is called 'chronos'.*minilm"):
        find_entry("chronos")


def test_the_83_features_are_in_the_order_of_the_contract() -> None:
    specs = load_features()
    assert [spec.index for spec in specs] == list(range(83))
    assert specs[0].name == "source_port"
    assert specs[67].path == "overall_threat_score"
    assert specs[82].name == "time_of_day_cos"


def test_a_reordered_contract_is_refused(tmp_path: Path) -> None:
    lines = FEATURES.read_text(encoding="utf-8").splitlines()
    lines[1], lines[2] = lines[2], lines[1]
    path = tmp_path / "features.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ManifestError, match="never reorders"):
        load_features(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('index = "attack"', 'index = "semantic"', "used twice"),
        ("dimension = 256", "dimension = 0", "do not fit"),
        ('licence = "Apache-2.0"', "", "licence"),
        ('version = "', "version = ", "cannot be read"),
    ],
)
def test_a_manifest_with_a_fault_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "manifest.toml"
    text = MANIFEST.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        load_manifest(path)


def test_the_digest_of_a_model_changes_with_any_of_its_files() -> None:
    model = find_entry("minilm")
    assert model.wheel is not None
    assert model.digest not in {model.sha256, *(file.sha256 for file in model.wheel.files)}


def test_a_missing_graph_names_the_model_and_the_remedy() -> None:
    missing = entry("nowhere", "attack", 256, 83, "0" * 64)
    assert state(missing) == "missing"
    with pytest.raises(ModelMissingError, match=r"nowhere.*install the package again"):
        locate(missing)


def test_an_altered_graph_is_refused() -> None:
    shipped = find_entry("attack")
    altered = entry("attack", "attack", 256, 83, "0" * 64)
    assert altered.artefact == shipped.artefact
    assert state(altered) == "altered"
    with pytest.raises(ModelAlteredError, match="the manifest says 0000"):
        locate(altered)


def test_the_cache_follows_the_desktop_convention_only_where_it_is_absolute() -> None:
    assert default_cache_dir({"XDG_CACHE_HOME": "/c"}) == Path("/c/dayfold/models")
    assert default_cache_dir({"XDG_CACHE_HOME": "c"}) == Path.home() / ".cache/dayfold/models"
