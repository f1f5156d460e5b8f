import importlib.util
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.internal import api_implementation

from consumer.errors import RegistryError
from consumer.registry import etcd_compat
from consumer.registry.etcd_compat import load_etcd3, serialized_descriptor


def test_etcd3_loads_beside_the_fast_protobuf_backend() -> None:
    assert load_etcd3().__version__ == "0.12.0"
    assert api_implementation.Type() == "upb"


def test_messages_go_through_the_wire_format_unchanged() -> None:
    rpc = load_etcd3().etcdrpc
    put = rpc.PutRequest(key=b"k", value=b"v", lease=2**62)
    assert rpc.PutRequest.FromString(put.SerializeToString()) == put
    assert put.SerializeToString() == b"\x0a\x01k\x12\x01v\x18" + b"\x80" * 8 + b"\x40"


def test_enumerations_are_where_etcd3_looks_for_them() -> None:
    rpc = load_etcd3().etcdrpc
    assert (rpc.RangeRequest.DESCEND, rpc.Compare.GREATER, rpc.NOSPACE) == (2, 1, 1)


def test_loading_twice_gives_the_same_module() -> None:
    assert load_etcd3() is load_etcd3()


def test_the_messages_stay_out_of_the_default_pool() -> None:
    load_etcd3()
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("auth.proto")


def test_a_generated_file_is_read_and_not_run(tmp_path: Path) -> None:
    generated = tmp_path / "x_pb2.py"
    generated.write_text("raise SystemExit\nd = f(serialized_pb=_b('\\n\\xe9'))\n")
    assert serialized_descriptor(generated) == b"\n\xe9"


@pytest.mark.parametrize("text", ["x = 1", "def", "f(serialized_pb=b'x')"])
def test_a_file_without_a_description_is_refused(tmp_path: Path, text: str) -> None:
    generated = tmp_path / "x_pb2.py"
    generated.write_text(text)
    with pytest.raises(RegistryError, match=r"x_pb2\.py .*etcd3==0\.12\.0"):
        serialized_descriptor(generated)


def test_a_missing_wheel_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "etcd3", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RegistryError, match="not installed"):
        etcd_compat.load_etcd3()
