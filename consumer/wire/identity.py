"""What makes two messages the same event."""

import hashlib
import struct

#: Length of a digest, bytes.
DIGEST_BYTES = 16

# The three lengths, then the timestamp as a 128-bit integer: its high half and its low half.
_HEAD = struct.Struct("<IIIqQ")
_LOW_HALF = 2**64 - 1
# A copy of it costs half of what making one does.
_EMPTY = hashlib.blake2b(digest_size=DIGEST_BYTES)


def identity_digest(
    node: str, event_id: str, timestamp_ns: int, *, content: bytes | None = None
) -> bytes:
    """Return the 16 bytes that identify an event: BLAKE2b-128 of its length-prefixed parts.

    `timestamp_ns` is the event's own timestamp as it was sent, plausible or not, because a repeat
    carries the same one. `content` is given for events without an id: then the payload itself is
    part of what identifies them. The lengths come first, so no two different triples can be told
    apart only by where one part ends. Raises struct.error if `timestamp_ns` needs more than 128
    bits, which the wire's seconds and nanoseconds never do, and UnicodeEncodeError for half a
    surrogate pair, which no protobuf string can hold.
    """
    node_bytes = node.encode()
    id_bytes = event_id.encode()
    # A content of no bytes must differ from no content, so its length counts from one.
    content_length = 0 if content is None else len(content) + 1
    head = _HEAD.pack(
        len(node_bytes), len(id_bytes), content_length, timestamp_ns >> 64, timestamp_ns & _LOW_HALF
    )
    text = head + node_bytes + id_bytes
    if content is not None:
        text += content
    digest = _EMPTY.copy()
    digest.update(text)
    return digest.digest()
