"""The schema says exactly what the detectors' schema says, no more and no less."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from proto import admission_pb2, generate, network_security_pb2
from proto.admission_pb2 import AdmissionEvent
from proto.network_security_pb2 import NetworkSecurityEvent

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Row = tuple[str, str, str, str, str, str]

_SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{_type(key)},{_type(value)}>"
    named = field.message_type or field.enum_type
    if named is None:
        return _SCALARS[field.type]
    return named.full_name.replace("google.protobuf.", "google").removeprefix("protobuf.")


def _label(field: FieldDescriptor) -> str:
    if _type(field).startswith("map<"):
        return "map"
    if field.is_repeated:
        return "repeated"
    explicit = field.has_presence and field.message_type is None
    return "optional" if explicit else "single"


def _enum_rows(enum: EnumDescriptor) -> Iterator[Row]:
    name = enum.full_name.removeprefix("protobuf.")
    for value in enum.values:
        yield "enum", name, value.name, str(value.number), "", ""


def _message_rows(message: Descriptor) -> Iterator[Row]:
    if message.GetOptions().map_entry:
        return
    name = message.full_name.removeprefix("protobuf.")
    for field in message.fields:
        yield "field", name, field.name, str(field.number), _label(field), _type(field)
    for enum in message.enum_types:
        yield from _enum_rows(enum)
    for nested in message.nested_types:
        yield from _message_rows(nested)


def test_every_row_of_the_wire_schema_is_matched_and_nothing_more_exists() -> None:
    with (HERE / "schema_fields.csv").open(newline="") as file:
        wire = {tuple(row[:6]) for row in list(csv.reader(file))[1:]}
    ours: set[tuple[str, ...]] = set()
    for message in network_security_pb2.DESCRIPTOR.message_types_by_name.values():
        ours.update(_message_rows(message))
    for enum in network_security_pb2.DESCRIPTOR.enum_types_by_name.values():
        ours.update(_enum_rows(enum))

    assert len(wire) == 433
    assert ours - wire == set()
    assert wire - ours == set()


def test_the_package_is_the_one_of_the_wire() -> None:
    assert network_security_pb2.DESCRIPTOR.package == "protobuf"
    assert NetworkSecurityEvent.DESCRIPTOR.full_name == "protobuf.NetworkSecurityEvent"


def test_admission_reads_fields_that_the_event_has() -> None:
    assert admission_pb2.DESCRIPTOR.package == "dayfold"
    event = network_security_pb2.DESCRIPTOR.message_types_by_name["NetworkSecurityEvent"]
    admission = admission_pb2.DESCRIPTOR.message_types_by_name["AdmissionEvent"]
    assert [field.number for field in admission.fields] == [1, 2, 3]
    for field in admission.fields:
        twin = event.fields_by_name[field.name]
        assert (field.number, _type(field), _label(field)) == (
            twin.number,
            _type(twin),
            _label(twin),
        )


def test_an_admission_message_read_from_an_event_holds_its_identity() -> None:
    event = NetworkSecurityEvent(event_id="a-1", originating_node_id="north")
    event.event_timestamp.FromNanoseconds(1_499_083_071_590_705_000)
    event.network_features.source_ip = "192.0.2.7"

    read = AdmissionEvent.FromString(event.SerializeToString())

    assert (read.event_id, read.originating_node_id) == ("a-1", "north")
    assert read.event_timestamp.ToNanoseconds() == 1_499_083_071_590_705_000


def test_a_field_of_a_later_schema_survives_a_rewrite() -> None:
    later = b"\xfa\x7f\x03new"  # field 2047, length-delimited
    event = NetworkSecurityEvent.FromString(
        NetworkSecurityEvent(event_id="a").SerializeToString() + later
    )

    assert event.SerializeToString().endswith(later)


def test_the_checked_in_modules_are_what_the_compiler_writes() -> None:
    for name, content in generate.generate(ROOT).items():
        assert (ROOT / "proto" / name).read_bytes() == content, (
            f"run python -m proto.generate: {name}"
        )


def test_generating_twice_gives_the_same_bytes() -> None:
    assert generate.generate(ROOT) == generate.generate(ROOT)


def test_check_tells_a_stale_module_and_leaves_it_alone(tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", copy, ignore=shutil.ignore_patterns("__pycache__"))
    stale = copy / "admission_pb2.py"
    stale.write_bytes(stale.read_bytes() + b"# edited\n")
    before = stale.read_bytes()

    checked = subprocess.run(
        [sys.executable, "-m", "proto.generate", "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert checked.returncode == 1
    assert checked.stdout == "admission_pb2.py: differs from its schema\n"
    assert stale.read_bytes() == before


def test_a_schema_that_the_compiler_refuses_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proto").mkdir()
    for name in generate.SCHEMAS:
        (tmp_path / "proto" / f"{name}.proto").write_text("syntax = 'proto3'; message {")

    with pytest.raises(generate.GenerationError, match="protoc ended with status"):
        generate.generate(tmp_path)
    assert "Expected message name" in capfd.readouterr().err
