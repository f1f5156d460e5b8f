"""The error tree of the encoders.

::

    ModelError
    ├── ManifestError       manifest.toml or features83.csv cannot be used
    ├── ModelMissingError   a file of the model is not on this machine yet
    ├── ModelAlteredError   a file does not have the digest that the manifest names
    ├── ModelBuildError     fetching or building a model failed
    └── ModelRunError       the encoder cannot be loaded, or refused its input

Every message names the model, the file and the remedy.
"""


class ModelError(Exception):
    """Root of what can go wrong with an encoder."""


class ManifestError(ModelError):
    """The manifest is not what this code can read."""


class ModelMissingError(ModelError):
    """A file of the model is not on this machine. `dayfold models build` fetches it."""


class ModelAlteredError(ModelError):
    """A file of the model is not the one that the manifest names."""


class ModelBuildError(ModelError):
    """A model could not be fetched or built."""


class ModelRunError(ModelError):
    """The encoder cannot be loaded, or refused its input."""
