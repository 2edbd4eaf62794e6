"""How long a BERT-base takes to build and load, and how much memory, beside keras-hub.

    python benchmarks/loading.py --runs 3

Writes an official-format checkpoint of BERT-base's size with random values (and, if
keras-hub is installed, the same number of weights in its own format), then loads each
in fresh processes, the libraries and backends taking turns. Seconds are counted after
the imports; memory is the peak above what the process held before, in units of the
weights' own size.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# BERT-Base, Chinese (Google's bert_config.json).
CONFIG = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def write_official(folder: Path) -> None:
    """An official-format folder with random values."""
    import numpy as np

    from bert4keras.checkpoints import write_checkpoint
    from bert4keras.models import build_transformer_model

    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    builder = build_transformer_model(
        CONFIG, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    rng = np.random.default_rng(0)
    arrays = (
        (name, rng.standard_normal(weight.shape, dtype="float32") * np.float32(0.02))
        for key, names in builder.variable_mapping().items()
        if key in builder.layers
        for name, weight in zip(names, builder.layers[key].weights, strict=True)
    )
    shapes = {"cls/seq_relationship/output_weights": (2, CONFIG["hidden_size"])}
    write_checkpoint(
        folder / "bert_model.ckpt",
        (
            (name, array.reshape(shapes.get(name, array.shape)))
            for name, array in arrays
        ),
    )


def hub_backbone():
    """keras-hub's BERT of the same size."""
    import keras_hub

    return keras_hub.models.BertBackbone(
        vocabulary_size=CONFIG["vocab_size"],
        num_layers=CONFIG["num_hidden_layers"],
        num_heads=CONFIG["num_attention_heads"],
        hidden_dim=CONFIG["hidden_size"],
        intermediate_dim=CONFIG["intermediate_size"],
        max_sequence_length=CONFIG["max_position_embeddings"],
        num_segments=CONFIG["type_vocab_size"],
    )


def load(library: str, folder: Path):
    """Build and load once with a library."""
    if library == "bert4keras":
        from bert4keras.models import build_transformer_model

        return build_transformer_model(folder, with_nsp=True, with_mlm=True)
    model = hub_backbone()
    model.load_weights(folder / "hub.weights.h5")
    return model


def peak() -> int:
    """The process's peak memory so far, in bytes.

    From Linux's /proc: getrusage would give the parent's peak where that was larger.
    """
    status = Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def child(library: str, folder: Path) -> None:
    """One measurement, in a process of its own; prints seconds and memory."""
    import keras

    import bert4keras.models  # noqa: F401 - not to be timed

    if library == "keras-hub":
        import keras_hub  # noqa: F401
    keras.ops.sum(keras.ops.ones((2, 2)))  # starts the backend
    before, start = peak(), time.perf_counter()
    model = load(library, folder)
    seconds = time.perf_counter() - start
    size = 4 * model.count_params()
    print(json.dumps({"seconds": seconds, "memory": (peak() - before) / size}))


def measure(library: str, backend: str, folder: Path) -> dict:
    """Run `child` on a backend."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(
        [sys.executable, __file__, "--child", library, "--folder", str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Prepare the files, take the measurements in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument(
        "--backends", nargs="+", default=["tensorflow", "jax", "torch"], metavar="NAME"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_official(folder)
        libraries = ["bert4keras"]
        if importlib.util.find_spec("keras_hub"):
            libraries.append("keras-hub")
            hub_backbone().save_weights(folder / "hub.weights.h5")
        results: dict = {}
        for _ in range(arguments.runs):
            for backend in arguments.backends:
                for library in libraries:
                    found = measure(library, backend, folder)
                    results.setdefault((backend, library), []).append(found)
    print(f"{'backend':12}{'library':12}{'seconds (min / median)':>26}{'memory':>10}")
    for (backend, library), found in results.items():
        seconds = [x["seconds"] for x in found]
        memory = max(x["memory"] for x in found)
        times = f"{min(seconds):.2f} / {statistics.median(seconds):.2f}"
        print(f"{backend:12}{library:12}{times:>26}{memory:>9.2f}x")


if __name__ == "__main__":
    main()
