"""Loads the etcd3 0.12.0 client beside protobuf 4 and later.

The wheel's generated modules describe their messages with Python calls that protobuf 4 refuses
("Descriptors cannot be created directly"). The same files also carry each description in
serialized form, which every protobuf accepts. So the descriptions are read out of the files, which
are parsed and never run, the message classes are built from them in a descriptor pool of their own,
and stand-in modules with those classes are registered before etcd3 is imported. The wheel stays as
it is, and protobuf keeps its fast backend.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

from consumer.errors import RegistryError

_PACKAGE = "etcd3.etcdrpc"
# In the order of their imports: rpc.proto refers to the other two.
_FILES = ("kv", "auth", "rpc")
_REMEDY = "install etcd3==0.12.0"
_lock = threading.Lock()


def load_etcd3() -> Any:
    """The `etcd3` module, importable with the protobuf that is installed.

    Raises:
        RegistryError: etcd3 is not installed, or is not built like version 0.12.0.
    """
    with _lock:
        if "etcd3" not in sys.modules:
            modules = _stand_ins(_generated_folder())
            sys.modules.update(modules)
            try:
                importlib.import_module("etcd3")
            except Exception as error:
                for name in modules:
                    sys.modules.pop(name, None)
                raise RegistryError(f"etcd3 cannot be imported: {error}; {_REMEDY}") from error
    return sys.modules["etcd3"]


def serialized_descriptor(generated: Path) -> bytes:
    """The serialized FileDescriptorProto that a generated module holds. The module is not run.

    Raises:
        RegistryError: the file cannot be read or holds no such description.
    """
    try:
        tree = ast.parse(generated.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise RegistryError(f"{generated.name} cannot be read: {error}; {_REMEDY}") from error
    for node in ast.walk(tree):
        match node:
            # serialized_pb=_b('...'), where _b() encodes its text as Latin-1.
            case ast.keyword(
                arg="serialized_pb",
                value=ast.Call(func=ast.Name(id="_b"), args=[ast.Constant(value=str(text))]),
            ):
                return text.encode("latin-1")
    raise RegistryError(f"{generated.name} holds no serialized descriptor; {_REMEDY}")


def _generated_folder() -> Path:
    spec = importlib.util.find_spec("etcd3")
    if spec is None or spec.origin is None:
        raise RegistryError(f"etcd3 is not installed; {_REMEDY}")
    return Path(spec.origin).parent / "etcdrpc"


def _stand_ins(folder: Path) -> dict[str, ModuleType]:
    # Not the default pool: there, names such as auth.proto could meet those of another package.
    pool = DescriptorPool()
    modules: dict[str, ModuleType] = {}
    for name in _FILES:
        pool.AddSerializedFile(serialized_descriptor(folder / f"{name}_pb2.py"))
        module = _module(f"{_PACKAGE}.{name}_pb2", pool.FindFileByName(f"{name}.proto"))
        modules[module.__name__] = module
    return modules


def _module(name: str, file: FileDescriptor) -> ModuleType:
    module = ModuleType(name, f"Messages of {file.name}, built from etcd3's own description.")
    contents: dict[str, object] = {"DESCRIPTOR": file}
    for message_name, message in file.message_types_by_name.items():
        contents[message_name] = GetMessageClass(message)
    for enum_name, enum in file.enum_types_by_name.items():
        contents[enum_name] = EnumTypeWrapper(enum)
        contents |= {value.name: value.number for value in enum.values}
    vars(module).update(contents)
    return module
