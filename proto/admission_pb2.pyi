import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AdmissionEvent(_message.Message):
    __slots__ = ("event_id", "event_timestamp", "originating_node_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ORIGINATING_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_timestamp: _timestamp_pb2.Timestamp
    originating_node_id: str
    def __init__(self, event_id: _Optional[str] = ..., event_timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., originating_node_id: _Optional[str] = ...) -> None: ...
