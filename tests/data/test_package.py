"""What holds for `bert4keras.data` as a whole."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import bert4keras.data

pytestmark = pytest.mark.pure

MODULES = [
    "bert4keras.arguments",
    *(
        f"bert4keras.data.{m.name}"
        for m in pkgutil.iter_modules(bert4keras.data.__path__)
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    if name == "bert4keras.data.feeding":
        pytest.skip("loads Keras, and has no examples")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_loads_no_backend():
    code = (
        "import sys, bert4keras.data, bert4keras.snippets\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "set()\n"
