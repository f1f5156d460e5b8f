"""JSON values into the fields of an event, by the schema's own descriptors.

A detector's record comes from another program and from a disk that may have been cut off. So every
value is taken as what its field can hold, or handed back: nothing here raises for what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, Final, NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from consumer.days import NS_PER_SECOND
from proto.network_security_pb2 import NetworkSecurityEvent

#: What a detector writes for "not measured".
MISSING: Final = -9999.0

#: Returned by `put` when nothing of the value is left over.
TAKEN: Final = object()

_FLOAT32_MAX: Final = 3.4028234663852886e38
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS: Final = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_TRUTH: Final = {"true": True, "yes": True, "false": False, "no": False}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The seconds that a Timestamp may hold: the years 1 to 9999.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_LONGEST_DURATION_S = 315_576_000_000


class Place(NamedTuple):
    """Where a value goes.

    Attributes:
        parents: the messages on the way from the event.
        name: of the field in the last of them.
        field: the field.
        plain: the value as a field of a single value holds it, or None if it cannot; None for a
            field that is a message, a list or a map.
    """

    parents: tuple[str, ...]
    name: str
    field: FieldDescriptor
    plain: Callable[[Any], Any] | None


def place(path: str) -> Place:
    """The place of a dotted path such as ``network_features.source_ip``.

    Raises:
        KeyError: the schema has no such field.
    """
    *parents, name = path.split(".")
    return _place(tuple(parents), _message_at(tuple(parents)).fields_by_name[name])


def places_in(path: str) -> dict[str, Place]:
    """Every field of the message at a dotted path ("" is the event), by its name."""
    parents = tuple(path.split(".")) if path else ()
    return {field.name: _place(parents, field) for field in _message_at(parents).fields}


def _place(parents: tuple[str, ...], field: FieldDescriptor) -> Place:
    single = field.message_type is None and not field.is_repeated
    return Place(parents, field.name, field, _converter(field) if single else None)


def _message_at(parents: tuple[str, ...]) -> Descriptor:
    message: Message = NetworkSecurityEvent()
    for name in parents:
        message = getattr(message, name)
    # The stubs know two classes of descriptors; at run time there is one.
    return cast("Descriptor", message.DESCRIPTOR)


def put(event: NetworkSecurityEvent, where: Place, value: Any) -> Any:
    """Put a JSON value into its place. Returns what could not be put there, or `TAKEN`.

    A null and a number that is not finite count as not measured.
    """
    message: Message = event
    for name in where.parents:
        message = getattr(message, name)
    if where.plain is None or value is None:
        return _put(message, where.field, value)
    converted = where.plain(value)
    if converted is None:
        return value
    setattr(message, where.name, converted)
    return TAKEN


def _put(message: Message, field: FieldDescriptor, value: Any) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return _put_map(getattr(message, field.name), inner.fields_by_name["value"], value)
    if field.is_repeated:
        return _put_list(message, field, value)
    if inner is not None:
        return _put_message(getattr(message, field.name), value)
    if value is None and field.cpp_type not in _FLOATS:
        return TAKEN
    converted = _scalar(field, value)
    if converted is None:
        return value
    setattr(message, field.name, converted)
    return TAKEN


def _put_map(target: Any, holds: FieldDescriptor, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    left: dict[str, Any] = {}
    for key, item in value.items():
        converted = _scalar(holds, item)
        if converted is None:
            left[key] = item
        else:
            target[clean(key)] = converted
    return left or TAKEN


def _put_list(message: Message, field: FieldDescriptor, value: Any) -> Any:
    if not isinstance(value, list) or field.message_type is not None:
        return value
    converted = [_scalar(field, item) for item in value]
    if any(item is None for item in converted):
        return value
    getattr(message, field.name).extend(converted)
    return TAKEN


def _put_message(message: Message, value: Any) -> Any:
    if isinstance(message, Timestamp):
        return _put_time(message, value)
    if isinstance(message, Duration):
        seconds = _number(value)
        if seconds is None or abs(seconds) > _LONGEST_DURATION_S:
            return value
        message.FromNanoseconds(round(seconds * NS_PER_SECOND))
        return TAKEN
    if not isinstance(value, dict):
        return value
    fields = cast("Descriptor", message.DESCRIPTOR).fields_by_name
    left: dict[str, Any] = {}
    for name, item in value.items():
        rest = _put(message, fields[name], item) if name in fields else item
        if rest is not TAKEN:
            left[name] = rest
    return left or TAKEN


def _put_time(stamp: Timestamp, value: Any) -> Any:
    ns = instant_ns(value)
    if ns is None or not _FIRST_SECOND <= ns // NS_PER_SECOND <= _LAST_SECOND:
        return value
    stamp.FromNanoseconds(ns)
    return TAKEN


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value as its field holds it, or None if it cannot."""
    return _converter(field)(value)


@cache
def _converter(field: FieldDescriptor) -> Callable[[Any], Any]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _text
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return _double
    if kind == FieldDescriptor.CPPTYPE_FLOAT:
        return _float
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _bool
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return partial(_enum, field)
    return partial(_integer, *_RANGES[kind])


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def _double(value: Any) -> float | None:
    number = MISSING if value is None else _number(value)
    # A text such as "nan", and NaN itself, say that nothing was measured.
    return MISSING if number is None and _is_nan(value) else number


def _float(value: Any) -> float | None:
    number = _double(value)
    return None if number is None or abs(number) > _FLOAT32_MAX else number


def _is_nan(value: Any) -> bool:
    if isinstance(value, float):
        return True
    return isinstance(value, str) and value.strip().lower() in {"nan", "inf", "-inf", "infinity"}


def _number(value: Any) -> float | None:
    """A finite number, also from a text; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(low: int, high: int, value: Any) -> int | None:
    if isinstance(value, int):
        number = int(value)
    else:
        inexact = _number(value)
        if inexact is None:
            return None
        number = round(inexact)
    return number if low <= number <= high else None


def _bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return _TRUTH.get(value.strip().lower()) if isinstance(value, str) else None


def _enum(field: FieldDescriptor, value: Any) -> int | None:
    kind = field.enum_type
    if kind is not None and isinstance(value, str):
        given = value.strip().upper()
        # DETECTOR_SOURCE_UNKNOWN: records also have the name without what all names begin with.
        prefix = kind.values[0].name.removesuffix("UNKNOWN")
        found = kind.values_by_name.get(given) or kind.values_by_name.get(prefix + given)
        return None if found is None else int(found.number)
    return _integer(*_RANGES[FieldDescriptor.CPPTYPE_INT32], value)


def instant_ns(value: Any) -> int | None:
    """An instant as UTC ns since 1970, or None if the value is none.

    A number is seconds, unless it is so large that only milli-, micro- or nanoseconds of our time
    can be meant (from 1e11, 1e14 and 1e17 on). A text is ISO 8601, UTC if it has no offset, or a
    number.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return _count_ns(_number(value))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        try:
            since = moment - _EPOCH
        except OverflowError:
            return None
        return since // timedelta(microseconds=1) * 1000
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole_ns(value)
    return _count_ns(_number(value))


def _count_ns(number: float | None) -> int | None:
    if number is None:
        return None
    whole = math.floor(number)
    size = _unit_ns(whole)
    # The fraction apart from the whole: together they would not fit a double's 53 bits.
    return whole * size + round((number - whole) * size)


def _whole_ns(number: int) -> int | None:
    return number * _unit_ns(number) if abs(number) < 2**63 else None


def _unit_ns(number: int) -> int:
    for least, size in ((10**17, 1), (10**14, 10**3), (10**11, 10**6)):
        if abs(number) >= least:
            return size
    return NS_PER_SECOND
