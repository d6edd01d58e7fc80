import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from meshsigner._proto.envoy.config.core.v3 import base_pb2 as _base_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CryptoMbPrivateKeyMethodConfig(_message.Message):
    __slots__ = ("private_key", "poll_delay")
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    POLL_DELAY_FIELD_NUMBER: _ClassVar[int]
    private_key: _base_pb2.DataSource
    poll_delay: _duration_pb2.Duration
    def __init__(self, private_key: _Optional[_Union[_base_pb2.DataSource, _Mapping]] = ..., poll_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
