"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from consumer import columns

# For tests that use the runtime themselves; see embed.onnx_session.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# How long an example takes says nothing about what is tested, only about the machine. A build that
# fails has to fail for what was changed, so its examples are always the same; `make properties`
# looks for new ones, and what it finds becomes an `@example`.
settings.register_profile("dayfold", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("dayfold")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that ran in this process set up logs; the next test begins without that."""
    yield
    structlog.reset_defaults()


@pytest.fixture(params=["compiled", "plain"], scope="module")
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything in the module twice: with what is compiled, and with its twins in Python."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            patch.setattr(columns, "compiled", lambda: None)
        elif columns.compiled() is None:
            pytest.skip("no C compiler was found when this was installed")
        yield
