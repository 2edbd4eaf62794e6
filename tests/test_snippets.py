"""The façade has the names and signatures of 0.11.5."""

import inspect
import json

import pytest

from bert4keras import snippets

pytestmark = pytest.mark.pure


def parameters(signature):
    return [(p.name, p.default) for p in signature.parameters.values()]


def recorded(text):
    """The parameters of a signature written as text."""
    namespace = {}
    exec(f"def f{text}: pass", namespace)
    return parameters(inspect.signature(namespace["f"]))


def found(function):
    return parameters(inspect.signature(function))


@pytest.fixture(scope="module")
def api(reference):
    path = reference / "bert4keras-0.11.5-api.json"
    return json.loads(path.read_text("utf-8"))["bert4keras.snippets"]


def test_everything_promised_is_there():
    for name in snippets.__all__:
        assert getattr(snippets, name).__module__.startswith("bert4keras.")


def test_signatures_begin_as_recorded(api):
    for name in snippets.__all__:
        expected = api[name]
        if isinstance(expected, str):
            signatures = [(getattr(snippets, name), expected)]
        elif name == "open":  # a class there
            signatures = [(snippets.open, expected["methods"]["__init__"])]
        else:
            cls = getattr(snippets, name)
            signatures = [
                (getattr(cls(data=[]), method) if method != "__init__" else cls, text)
                for method, text in expected["methods"].items()
            ]
        for function, text in signatures:
            old = recorded(text)
            assert found(function)[: len(old)] == old, function
