"""Fine-tuning of a BERT classifier that can be interrupted at any moment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from classifier_data import Examples
from training_state import load_state, save_state, save_weights

from bert4keras.data import PaddedBatches
from bert4keras.models import build_transformer_model
from bert4keras.optimizers import Adam, extend_with_gradient_accumulation
from bert4keras.tokenizers import Tokenizer

AccumulatedAdam = extend_with_gradient_accumulation(Adam, "AccumulatedAdam")

STATE_FILE = "state.npz"
WEIGHTS_FILE = "best.weights.h5"
# Batches are as long as their longest text, rounded up to a multiple of this: a
# backend that compiles a step for every shape then compiles few.
LENGTH_STEP = 16


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    `learning_rate` is reached after the share `warmup` of all updates and falls to
    zero along a cosine. `accumulate` batches of `batch_size` make one update. The
    state is saved every `save_every` batches and after each epoch.
    """

    epochs: int
    batch_size: int
    accumulate: int
    learning_rate: float
    warmup: float = 0.1
    seed: int = 1
    save_every: int = 200


def encode_examples(
    tokenizer: Tokenizer,
    examples: Examples,
    labels: Sequence[str],
    maxlen: int,
    batch_size: int = 32,
    seed: int = 1,
) -> PaddedBatches:
    """Encodes the examples of a file.

    Args:
        tokenizer: of the checkpoint.
        examples: of one file.
        labels: the classes in order; a batch's targets are indices into them.
        maxlen: the most ids of one example, special tokens included.
        batch_size: examples in a batch.
        seed: of the order of training batches.

    Returns:
        Batches `((token_ids, segment_ids), classes)`, integers of the shapes (batch,
        length), (batch, length) and (batch,); without classes if the file has none.

    Raises:
        ValueError: a text without a single token; names its line.
    """
    pairs = examples.columns.count("text") == 2
    texts = [text if pairs else text[0] for text in examples.texts]
    encoded = tokenizer.encode_batch(texts, maxlen=maxlen)
    for number, segments in zip(examples.numbers, encoded[1], strict=True):
        second = sum(segments)
        # [CLS] a [SEP] and b [SEP]: what is left without a and b.
        if len(segments) - second <= 2 or (pairs and second <= 1):
            raise ValueError(
                f"{examples.path}, line {number}: a text without tokens; it has only "
                "characters that the tokenizer drops"
            )
    classes = None
    if examples.labels is not None:
        index = {label: i for i, label in enumerate(labels)}
        classes = np.array([index[label] for label in examples.labels], dtype="int32")
    return PaddedBatches(
        [[np.asarray(ids, "int32") for ids in column] for column in encoded],
        classes,
        batch_size,
        pad_to_multiple=LENGTH_STEP,
        seed=seed,
    )


def set_seed(seed: int) -> None:
    """Seeds whatever Keras and its backend draw from."""
    keras.utils.set_random_seed(seed % 2**32)


def build_classifier(
    classes: int,
    config: str | Path | dict,
    checkpoint: str | Path | None = None,
    pooling: str = "first",
) -> keras.Model:
    """BERT with a linear layer on one vector for the text.

    With `pooling="first"` that vector is the pooled first token, as in the BERT paper
    (Devlin et al. 2019, section 4.1) and google-research/bert's `run_classifier.py`;
    next-sentence prediction has prepared it for that. With `"mean"` it is the mean of
    all tokens' hidden states, for encoders that were pre-trained without that task.

    Args:
        classes: how many.
        config: path of `bert_config.json`, or its content.
        checkpoint: prefix or folder of the weights; None leaves them random.
        pooling: `"first"` or `"mean"`.

    Returns:
        A model from [token ids, segment ids], both (batch, length), to logits
        (batch, classes).
    """
    bert = build_transformer_model(config, checkpoint, with_pool=pooling == "first")
    vector = bert.output
    if pooling == "mean":
        vector = keras.layers.GlobalAveragePooling1D(name="Classifier-Mean")(vector)
    vector = keras.layers.Dropout(0.1, name="Classifier-Dropout")(vector)
    logits = keras.layers.Dense(
        classes,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        name="Classifier",
    )(vector)
    return keras.Model(bert.inputs, logits)


def predict_probabilities(model: keras.Model, texts: PaddedBatches) -> np.ndarray:
    """Class probabilities (texts, classes), in float64, in the order of `texts`."""
    order = np.argsort(texts.lengths, kind="stable")
    logits = np.empty((len(order), model.output_shape[-1]))
    for start in range(0, len(order), texts.batch_size):
        batch = order[start : start + texts.batch_size]
        logits[batch] = model.predict_on_batch(texts.gather(batch)[0])
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def scores(probabilities: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy in nats, accuracy, and F1 averaged over the classes.

    A class that neither occurs nor is predicted is left out of the average.

    Example:
        >>> scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))["accuracy"]
        1.0
    """
    predicted = probabilities.argmax(axis=1)
    chosen = probabilities[np.arange(len(classes)), classes]
    f1 = []
    for c in np.union1d(classes, predicted):
        hits = np.sum((predicted == c) & (classes == c))
        f1.append(2 * hits / (np.sum(predicted == c) + np.sum(classes == c)))
    return {
        "loss": float(-np.log(np.maximum(chosen, 1e-300)).mean()),
        "accuracy": float(np.mean(predicted == classes)),
        "macro_f1": float(np.mean(f1)),
    }


def compile_classifier(model: keras.Model, schedule: Schedule, batches: int) -> None:
    """Gives the model its loss and its optimizer, for `batches` in each epoch."""
    updates = max(1, schedule.epochs * batches // schedule.accumulate)
    warmup = round(schedule.warmup * updates)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else schedule.learning_rate,
        warmup_target=schedule.learning_rate if warmup else None,
        warmup_steps=warmup,
        decay_steps=max(1, updates - warmup),
    )
    model.compile(
        optimizer=AccumulatedAdam(
            learning_rate=rate,
            global_clipnorm=1.0,  # as in google-research/bert's optimization.py
            grad_accum_steps=schedule.accumulate,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # XLA compiles a step anew for each length; TensorFlow alone does not.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


class Trainer:
    """A training run in a folder.

    Args:
        model: compiled by `compile_classifier`.
        schedule: the same.
        folder: an existing one, for the state and the best weights.

    `restore` takes up a saved state, `run` trains from there. What `run` does between
    two saved states depends on the first of them and on `schedule` alone, so that an
    interruption changes nothing.
    """

    def __init__(self, model: keras.Model, schedule: Schedule, folder: str | Path):
        self.model = model
        self.schedule = schedule
        self.state_path = Path(folder) / STATE_FILE
        self.weights_path = Path(folder) / WEIGHTS_FILE
        self.progress = {
            "epoch": 0,  # completed epochs
            "batch": 0,  # completed batches of the next one
            "loss_sum": 0.0,  # over those batches' texts
            "texts": 0,
            "history": [],
            "best": None,
        }

    def restore(self) -> bool:
        """Takes up the saved state; False if there is none.

        Raises:
            ValueError: the state is damaged or of another model.
        """
        if not self.state_path.exists():
            return False
        self.progress = load_state(self.state_path, self.model)
        print(
            f"Resumed after epoch {self.progress['epoch']} of {self.schedule.epochs}, "
            f"batch {self.progress['batch']} of the next",
            flush=True,
        )
        return True

    def run(self, training: PaddedBatches, validation: PaddedBatches) -> dict:
        """Trains to the end and returns the progress.

        After each epoch the scores on `validation` join `progress["history"]`, and
        the weights are kept if the accuracy is the best so far (`progress["best"]`).
        """
        if not self.state_path.exists():
            self._save()
        self._reseed()
        while self.progress["epoch"] < self.schedule.epochs:
            self._train_epoch(training)
            self._finish_epoch(validation)
        return self.progress

    def _train_epoch(self, training: PaddedBatches) -> None:
        """What is left of an epoch."""
        progress = self.progress
        batches = training.order(progress["epoch"])
        print(f"Epoch {progress['epoch'] + 1}/{self.schedule.epochs}", flush=True)
        bar = keras.utils.Progbar(
            len(batches),
            verbose=1 if sys.stdout.isatty() else 2,
            stateful_metrics=["loss"],
            unit_name="batch",
        )
        for indices in batches[progress["batch"] :]:
            x, y = training.gather(indices)
            loss = float(self.model.train_on_batch(x, y))
            progress["batch"] += 1
            progress["texts"] += len(indices)
            progress["loss_sum"] += loss * len(indices)
            mean = progress["loss_sum"] / progress["texts"]
            is_last = progress["batch"] == len(batches)
            bar.update(progress["batch"], [("loss", mean)], finalize=is_last)
            if progress["batch"] % self.schedule.save_every == 0 and not is_last:
                self._save()

    def _finish_epoch(self, validation: PaddedBatches) -> None:
        valid = scores(predict_probabilities(self.model, validation), validation.labels)
        progress = self.progress
        loss = progress["loss_sum"] / progress["texts"]
        entry = {"epoch": progress["epoch"] + 1, "loss": loss}
        entry.update({f"val_{name}": value for name, value in valid.items()})
        best = progress["best"]
        is_best = best is None or entry["val_accuracy"] > best["val_accuracy"]
        print(
            "  validation: "
            + ", ".join(f"{name} {value:.4f}" for name, value in valid.items())
            + (", the best so far" if is_best else ""),
            flush=True,
        )
        # The weights first: if only they get written, resuming writes the same again.
        if is_best:
            save_weights(self.weights_path, self.model)
            progress["best"] = entry
        progress["history"].append(entry)
        progress.update(epoch=entry["epoch"], batch=0, loss_sum=0.0, texts=0)
        self._save()

    def _save(self) -> None:
        save_state(self.state_path, self.model, self.progress)
        self._reseed()

    def _reseed(self) -> None:
        """Goes on from every saved state with random numbers that depend on it alone.

        PyTorch draws dropout from a global generator that no Keras variable holds.
        """
        step = self.progress["epoch"] * 1_000_003 + self.progress["batch"]
        set_seed(self.schedule.seed * 7_919 + step)
