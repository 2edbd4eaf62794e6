"""From a configuration and a checkpoint to a model, in one call."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

import keras

from bert4keras.models.bert import BERT
from bert4keras.models.loading import deferred_initialization
from bert4keras.models.masks import (
    extend_with_language_model,
    extend_with_unified_language_model,
)
from bert4keras.models.transformer import Transformer

FAMILIES = {"bert": BERT, "roberta": BERT}

APPLICATIONS = {
    "encoder": lambda family: family,
    "lm": extend_with_language_model,
    "unilm": extend_with_unified_language_model,
}

# bert4keras's name for a setting, its name in official configurations, its default.
SYNONYMS = (
    ("max_position", "max_position_embeddings", 512),
    ("dropout_rate", "hidden_dropout_prob", None),
    ("attention_dropout_rate", "attention_probs_dropout_prob", None),
    ("segment_vocab_size", "type_vocab_size", 2),
)


def build_transformer_model(
    config_path: str | PathLike | Mapping | None = None,
    checkpoint_path: str | PathLike | None = None,
    model: str | Callable = "bert",
    application: str = "encoder",
    return_keras_model: bool = True,
    **kwargs,
) -> keras.Model | Transformer:
    """Build a model, and load official weights into it if a checkpoint is given.

    Args:
        config_path: `bert_config.json`; or a checkpoint's folder, which holds that
            and the checkpoint; or the configuration itself as a mapping.
        checkpoint_path: the checkpoint's prefix (`.../bert_model.ckpt`) or folder;
            None leaves the weights at their initial values, unless `config_path` is a
            folder.
        model: name of the family, or a class or function to make the builder with.
        application: `"encoder"`; `"lm"`, a left-to-right language model; or `"unilm"`,
            sequence to sequence in one model.
        return_keras_model: whether to return the Keras model or its builder.
        **kwargs: settings that go before those in the configuration; see the family's
            class, for instance `with_pool`, `with_mlm`, `keep_tokens`,
            `sequence_length`, and `Transformer.build`.

    Returns:
        The Keras model, or with `return_keras_model=False` the builder, whose `model`
        it is.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: for an unknown family or application, a configuration that is no
            JSON object or lacks a setting, or a checkpoint that does not fit (among
            them `CheckpointError`).

    Example:
        >>> model = build_transformer_model("chinese_L-12_H-768_A-12", with_pool=True)
    """
    if isinstance(config_path, str | PathLike) and Path(config_path).is_dir():
        checkpoint_path = checkpoint_path or config_path
        config_path = find_config(config_path)
    settings = {**read_config(config_path), **kwargs}
    for name, official, default in SYNONYMS:
        settings.setdefault(name, settings.get(official, default))
    family = _find_family(model, application)
    _check_settings(family, settings, config_path)
    builder = family(**settings)
    if checkpoint_path is None:
        builder.build(**settings)
    else:
        with _deferred(builder):
            builder.build(**settings)
            builder.load_weights_from_checkpoint(checkpoint_path)
    return builder.model if return_keras_model else builder


def find_config(folder: str | PathLike) -> Path:
    """The one file `*config.json` of a folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several and none is `bert_config.json`.
    """
    folder = Path(folder)
    official = folder / "bert_config.json"
    found = [official] if official.is_file() else sorted(folder.glob("*config.json"))
    if not found:
        raise FileNotFoundError(
            f"the folder {folder} holds no bert_config.json or other *config.json; "
            "give the configuration's path as config_path."
        )
    if len(found) > 1:
        raise ValueError(
            f"the folder {folder} holds several configurations, "
            f"{[path.name for path in found]}; give one's path as config_path."
        )
    return found[0]


def read_config(config: str | PathLike | Mapping | None) -> dict:
    """The settings of a configuration file, or of a mapping.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no JSON object.
    """
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    try:
        settings = json.loads(Path(config).read_text(encoding="utf-8"))
    except ValueError as error:  # json's and Unicode's errors are ValueErrors
        raise ValueError(f"{config} is no JSON file: {error}.") from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"{config} holds a JSON {type(settings).__name__}, "
            "not an object of settings."
        )
    return settings


def _find_family(model, application):
    name = str(application).lower()
    if name not in APPLICATIONS:
        raise ValueError(
            f"application={application!r} is unknown; choose one of "
            f"{list(APPLICATIONS)}."
        )
    if isinstance(model, str):
        if model.lower() not in FAMILIES:
            raise ValueError(
                f"model={model!r} is unknown; choose one of {list(FAMILIES)}, or give "
                "a class derived from Transformer."
            )
        model = FAMILIES[model.lower()]
    if name != "encoder" and not isinstance(model, type):
        raise ValueError(
            f"application={application!r} extends a class, but model={model!r} is "
            "none; give the class, or apply extend_with_language_model yourself."
        )
    return APPLICATIONS[name](model)


def _check_settings(family, settings, source):
    """All settings that the classes' constructors cannot do without."""
    if not isinstance(family, type):
        return
    needed = []
    for cls in family.__mro__:
        if "__init__" in vars(cls) and cls is not object:
            parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
            needed += [
                p.name
                for p in parameters
                if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
            ]
    missing = sorted({name for name in needed if name not in settings})
    if missing:
        where = "the arguments" if source is None else "the configuration"
        if isinstance(source, str | PathLike):
            where = f"the configuration {source}"
        raise ValueError(
            f"{where} lacks {', '.join(missing)}, which {family.__name__} needs; add "
            "it to the file, or pass it as an argument."
        )


def _deferred(builder):
    """Wait with initial values, unless existing layers are reused: those have some."""
    return contextlib.nullcontext() if builder.layers else deferred_initialization()
