"""Makes the example programs importable, as they are when run as scripts."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory):
    """Lets JAX keep what it has compiled: the programs are run again and again."""
    if os.environ["KERAS_BACKEND"] != "jax":
        yield
        return
    import jax

    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
