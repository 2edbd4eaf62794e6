"""For `pip install .` with old tools; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
