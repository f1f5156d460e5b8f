"""The error tree of the service.

::

    DayfoldError
    ├── ConfigurationError          settings that cannot be used (exit code 2)
    ├── UsageError                  a command that asks for what is not there (exit code 2)
    ├── UnreachableError            something needed does not answer (exit code 3)
    │   └── RegistryError           etcd refused, timed out or went away
    ├── EnvelopeError               a message that cannot be opened
    │   ├── UnknownKeyError         no key candidate opens it
    │   ├── TamperedError           truncated, or altered after sealing
    │   └── DecompressionError      size header above the limit, LZ4 garbage, size mismatch
    ├── SchemaError                 bytes that are not a NetworkSecurityEvent
    ├── JournalError
    │   ├── JournalLockedError      another process writes this data folder
    │   ├── JournalWriteError       write or fsync failed; the journal has stopped
    │   └── JournalCorruptError     a record, segment or seal that fails its checksum
    ├── QuarantineError             the quarantine itself cannot be read or written
    ├── FoldError                   a closed day could not be embedded or committed
    ├── ForgetError                 a day could not be removed everywhere
    └── SnapshotError               a snapshot could not be taken, or must not be restored

`embed`, `index` and `models` draw their own trees (`EmbedError`, `StoreError`, `ModelError`).
Every message names the thing, its value and the remedy.
"""


class DayfoldError(Exception):
    """Root of every error that the service raises on purpose."""


class ConfigurationError(DayfoldError):
    """Settings that cannot be used. The message has one line per fault, each with its key."""


class UsageError(DayfoldError):
    """A command asks for something that does not exist."""


class UnreachableError(DayfoldError):
    """Something that the command needs does not answer."""


class RegistryError(UnreachableError):
    """The registry refused, timed out or went away."""


class EnvelopeError(DayfoldError):
    """A message from the wire that cannot be opened."""


class UnknownKeyError(EnvelopeError):
    """No key candidate opens the message."""


class TamperedError(EnvelopeError):
    """The message is truncated or was altered after it was sealed."""


class DecompressionError(EnvelopeError):
    """The plaintext does not decompress to what its size header says, within the limit."""


class SchemaError(DayfoldError):
    """The payload is not a NetworkSecurityEvent."""


class JournalError(DayfoldError):
    """Root of what can go wrong with the journal."""


class JournalLockedError(JournalError):
    """Another process is the writer of this data folder."""


class JournalWriteError(JournalError):
    """A write or fsync failed. The journal takes no more events until it is opened again."""


class JournalCorruptError(JournalError):
    """A record, segment or seal fails its checksum."""


class QuarantineError(DayfoldError):
    """The quarantine itself cannot be read or written."""


class FoldError(DayfoldError):
    """A closed day could not be embedded or committed."""


class ForgetError(DayfoldError):
    """A day that was to be forgotten is not removed everywhere yet."""


class SnapshotError(DayfoldError):
    """A snapshot could not be taken, or is not what it was and is not restored."""
