"""Fixtures shared by all tests.

One run of pytest tests one backend, the one that `KERAS_BACKEND` names. Tests marked
`pure` touch no backend and run in the TensorFlow pass only.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BACKEND = os.environ["KERAS_BACKEND"]
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("BERT4KERAS_SHARED", ROOT.parent / "shared"))


# A loaded machine may take long for one example; that is no failure. The examples are
# the same in every run: a failure must mean that the code has changed.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(config, items):
    if BACKEND == "tensorflow":
        return
    skipped = [item for item in items if item.get_closest_marker("pure")]
    if skipped:
        config.hook.pytest_deselected(items=skipped)
        items[:] = [item for item in items if not item.get_closest_marker("pure")]


@pytest.fixture(scope="session")
def backend():
    """The name of the Keras backend under test."""
    return BACKEND


@pytest.fixture(scope="session")
def reference():
    """The folder of other programs' recorded answers."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"no recorded answers at {folder}")
    return folder


@pytest.fixture(scope="session")
def real_data():
    """The folder of public Chinese data sets."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}")
    return folder
