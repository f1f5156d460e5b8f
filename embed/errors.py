"""The error tree of the embedders.

::

    EmbedError
    ├── FeatureContractError    features83.csv does not say what this code was written for
    ├── CoverageError           an event, a minute or a token did not reach its encoder
    └── EmbedderStateError      begin, add and finish were called out of order

A model that cannot be loaded or run raises `models.errors.ModelError`. Every message names the
thing, its value and the remedy.
"""


class EmbedError(Exception):
    """Root of every error that an embedder raises on purpose."""


class FeatureContractError(EmbedError):
    """The contract of the 83 features and the schema do not fit together."""


class CoverageError(EmbedError):
    """The coverage of a chunk is not whole: it must not be committed."""


class EmbedderStateError(EmbedError):
    """An embedder was used out of order."""
