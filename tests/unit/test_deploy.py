"""What can be checked of `deploy/` without a container engine or an init system."""

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.settings import Settings, load

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TOP = DEPLOY.parent


def unit() -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in (DEPLOY / "dayfold.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    return values


def test_the_shipped_settings_are_valid() -> None:
    assert load(DEPLOY / "dayfold.toml").data.dir == Path("/var/lib/dayfold")


def test_the_settings_of_a_small_box_load_and_ask_for_less_than_the_defaults() -> None:
    small, usual = load(DEPLOY / "dayfold-small.toml"), Settings()
    assert small.subscriber.handover_mb < usual.subscriber.handover_mb
    assert small.journal.segment_mb < usual.journal.segment_mb
    assert small.fold.memory_mb < usual.fold.memory_mb
    assert small.fold.threads == 1


def test_the_commented_examples_in_the_settings_are_valid(tmp_path: Path) -> None:
    text = (DEPLOY / "dayfold.toml").read_text()
    opened = re.sub(
        r"^# (\[\[|name = |address = |id = |scheme = |file = )", r"\1", text, flags=re.MULTILINE
    )
    tomllib.loads(opened)
    path = tmp_path / "dayfold.toml"
    path.write_text(opened)
    settings = load(path)
    assert settings.detector.endpoints[0].address == "tcp://10.0.0.5:5572"
    assert settings.detector.keys[0].id == "seed-2026"


def test_the_unit_notifies_is_watched_and_is_confined() -> None:
    values = unit()
    assert values["Type"] == ["notify"]
    assert int(values["WatchdogSec"][0]) >= 10
    assert values["User"] == ["dayfold"]
    assert values["StateDirectory"] == ["dayfold"]
    assert values["ProtectSystem"] == ["strict"]
    assert values["NoNewPrivileges"] == ["yes"]
    assert values["CapabilityBoundingSet"] == [""]
    configparser.ConfigParser(strict=False).read_string((DEPLOY / "dayfold.service").read_text())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    # The paths of the unit do not exist here: point them at what does.
    text = (DEPLOY / "dayfold.service").read_text()
    copy = tmp_path / "dayfold.service"
    copy.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in checked.stderr.splitlines() if "dayfold.service" in line]
    assert complaints == []


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def test_the_compose_file_has_registry_detector_and_consumer() -> None:
    services = compose()["services"]
    assert {"etcd", "detector", "dayfold"} <= services.keys()
    volumes = compose()["volumes"].keys()
    for service in services.values():
        for mount in service.get("volumes", []):
            assert mount.split(":")[0] in volumes


def test_the_settings_of_the_compose_file_are_valid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in compose()["services"]["dayfold"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.registry.etcd.endpoints == ("etcd:2379",)
    assert settings.day.clock == "event"


def test_the_stand_in_of_the_compose_file_gets_options_that_exist() -> None:
    from typer.testing import CliRunner

    from consumer.commands.app import app

    text = CliRunner().invoke(app, ["replay", "--help"], env={"COLUMNS": "200"}).output
    for option in compose()["services"]["detector"]["command"][2:]:
        assert option.split("=")[0] in text


def test_the_image_is_built_in_stages_and_runs_without_root() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    stages = [line for line in lines if line.startswith("FROM")]
    assert len(stages) == 2
    assert [line for line in lines if line.startswith("USER")] == ["USER dayfold"]
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (TOP / source).exists(), source


def test_alert_rules_use_only_metrics_that_exist() -> None:
    documented = set(re.findall(r"`(dayfold_\w+)`", (TOP / "docs" / "metrics.md").read_text()))
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            used = set(re.findall(r"dayfold_\w+", rule["expr"]))
            assert used
            assert used <= documented, rule["alert"]
