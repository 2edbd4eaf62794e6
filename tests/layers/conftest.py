"""Makes `tests/gradients.py` available to the tests of layers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def gradients():
    """A function from a scalar function and arrays to the gradients, as arrays."""
    from gradients import gradients

    return gradients
