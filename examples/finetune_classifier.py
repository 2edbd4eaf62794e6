"""Fine-tunes a Chinese BERT to classify texts or pairs of texts.

Without arguments it is a demonstration that needs nothing but the installed packages:
it pre-trains a tiny BERT on synthetic reviews, writes it in the format of the official
checkpoints, and fine-tunes that on synthetic labelled reviews.

    python examples/finetune_classifier.py

With a checkpoint's folder (bert_config.json, vocab.txt, bert_model.ckpt.*) and
tab-separated files it does the real thing. Interrupted at any moment, the same command
with --resume goes on.

    python examples/finetune_classifier.py --checkpoint chinese_L-12_H-768_A-12 \\
        --train a.tsv --valid b.tsv --test c.tsv --output run \\
        --batch-size 16 --accumulate 4 --maxlen 256
    python examples/finetune_classifier.py --output run --predict texts.tsv
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from pathlib import Path

from bag_of_words import bag_of_words_accuracy
from classifier_data import (
    COLUMNS,
    label_key,
    read_labelled_file,
    read_texts,
    read_training_file,
)
from synthetic_reviews import make_vocabulary, write_dataset

from bert4keras.tokenizers import Tokenizer, load_vocab

# Keras takes seconds to import. The modules that need it are imported in functions,
# after the files have been read: a mistake in these is reported at once.

CONFIG_FILE = "bert_config.json"
VOCAB_FILE = "vocab.txt"
SETTINGS_FILE = "settings.json"
RESULTS_FILE = "results.json"
CURVES_FILE = "curves.png"

# Devlin et al. 2019, appendix A.3: batches of 16 or 32, 2 to 4 epochs, 2e-5 to 5e-5.
DEFAULTS = {
    "output": "classifier-output",
    "batch_size": 16,
    "accumulate": 1,
    "epochs": 3,
    "learning_rate": 2e-5,
    "maxlen": 128,
    "pooling": "first",
}
# The tiny BERT of the demonstration learns in larger steps. It was pre-trained without
# next-sentence prediction, so that its first token stands for nothing yet.
DEMO_DEFAULTS = {
    "output": "demo-output",
    "batch_size": 16,
    "accumulate": 2,
    "epochs": 4,
    "learning_rate": 1e-3,
    "maxlen": 96,
    "pooling": "mean",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit status, 2 for bad arguments or files."""
    parser = make_parser()
    arguments = parse_arguments(parser, argv)
    try:
        if arguments.predict:
            print_predictions(arguments)
            return 0
        if arguments.checkpoint is None:
            arguments = prepare_demo(arguments)
        run = Run(arguments)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    try:
        run.train()
    except KeyboardInterrupt:
        print("\nInterrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, most of the time
        print(
            f"\n{parser.prog}: {error}; once that is mended, the same command with "
            "--resume goes on",
            file=sys.stderr,
        )
        return 1
    run.report()
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    files = parser.add_argument_group("files")
    files.add_argument("--checkpoint", metavar="DIR", help="the pre-trained BERT")
    files.add_argument(
        "--train", metavar="FILE", help="label<TAB>text, or as --columns"
    )
    files.add_argument("--valid", metavar="FILE", help="chooses the weights to keep")
    files.add_argument("--test", metavar="FILE", help="optional, scored at the end")
    files.add_argument("--output", metavar="DIR", help="results, weights and state")
    files.add_argument("--resume", action="store_true", help="go on in --output")
    files.add_argument(
        "--predict", metavar="FILE", help="predict with the weights in --output"
    )
    files.add_argument(
        "--columns",
        choices=[",".join(columns) for columns in COLUMNS],
        help="of the training file (detected)",
    )
    files.add_argument(
        "--header", choices=["yes", "no"], help="whether line 1 is one (detected)"
    )
    model = parser.add_argument_group("model")
    model.add_argument("--maxlen", type=int, metavar="N", help="tokens (128)")
    model.add_argument(
        "--pooling",
        choices=["first", "mean"],
        help="classify the pooled first token (default) or the tokens' mean",
    )
    case = model.add_mutually_exclusive_group()
    case.add_argument(
        "--lower-case",
        dest="lower_case",
        action="store_true",
        default=True,
        help="for uncased vocabularies, all official Chinese ones (default)",
    )
    case.add_argument("--cased", dest="lower_case", action="store_false")
    training = parser.add_argument_group("training")
    training.add_argument("--batch-size", type=int, metavar="N", help="texts (16)")
    training.add_argument(
        "--accumulate", type=int, metavar="N", help="batches in one update (1)"
    )
    training.add_argument("--epochs", type=int, metavar="N", help="(3)")
    training.add_argument("--learning-rate", type=float, metavar="X", help="(2e-5)")
    training.add_argument(
        "--warmup", type=float, default=0.1, metavar="X", help="share of updates (0.1)"
    )
    training.add_argument("--seed", type=int, default=1, metavar="N", help="(1)")
    training.add_argument(
        "--save-every",
        type=int,
        default=500,
        metavar="N",
        help="batches between saved states, besides one an epoch (500)",
    )
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, argv: list[str] | None = None
) -> argparse.Namespace:
    """Parses and checks the command line, and fills in the defaults."""
    arguments = parser.parse_args(argv)
    needed = ("checkpoint", "train", "valid")
    given = [name for name in needed if getattr(arguments, name) is not None]
    if arguments.predict:
        if given or arguments.output is None:
            parser.error("--predict needs --output, the folder of a run, and no other")
    elif given and len(given) < len(needed):
        missing = " and ".join(f"--{n}" for n in needed if n not in given)
        parser.error(f"{missing} missing (give all three, or none for a demonstration)")
    elif arguments.test and not given:
        parser.error("--test without --checkpoint, --train and --valid")
    for name, value in (DEFAULTS if given else DEMO_DEFAULTS).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name in ("batch_size", "accumulate", "epochs", "save_every"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.maxlen < 8:
        parser.error("--maxlen must be at least 8")
    if not arguments.learning_rate > 0:
        parser.error("--learning-rate must be positive")
    if not 0 <= arguments.warmup < 1:
        parser.error("--warmup must be at least 0 and below 1")
    if arguments.seed < 0:
        parser.error("--seed must not be negative")
    return arguments


class Run:
    """One fine-tuning run.

    The constructor reads and checks everything and builds the model; it raises
    `FileNotFoundError`, `FileExistsError` or `ValueError` before a file is written.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.output = Path(arguments.output)
        self._read_files()
        checkpoint = Path(arguments.checkpoint)
        self.config = read_config(checkpoint / CONFIG_FILE, arguments.maxlen)
        vocab = load_vocab(checked_file(checkpoint / VOCAB_FILE))
        self.settings = self._make_settings(checkpoint)
        check_output(self.output, self.settings, arguments.resume)
        tokenizer = Tokenizer(vocab, do_lower_case=arguments.lower_case)
        self._build(checkpoint, tokenizer)

    def _read_files(self) -> None:
        arguments = self.arguments
        columns = tuple(arguments.columns.split(",")) if arguments.columns else None
        header = {"yes": True, "no": False, None: None}[arguments.header]
        training = read_training_file(arguments.train, columns, header)
        self.examples = {"train": training}
        for name in ("valid", "test"):
            path = getattr(arguments, name)
            if path is not None:
                self.examples[name] = read_labelled_file(path, training, header)
        for examples in self.examples.values():
            print(examples.describe(), flush=True)
        self.labels = sorted(set(training.labels), key=label_key)

    def _make_settings(self, checkpoint: Path) -> dict:
        """All that the trained weights depend on."""
        arguments = self.arguments
        names = ("maxlen", "pooling", "lower_case", "batch_size", "accumulate")
        names += ("epochs", "learning_rate", "warmup", "seed", "save_every")
        settings = {name: getattr(arguments, name) for name in names}
        settings["labels"] = self.labels
        settings["columns"] = list(self.examples["train"].columns)
        settings["backend"] = backend_name()
        settings["train"] = fingerprint(arguments.train)
        settings["valid"] = fingerprint(arguments.valid)
        # An index holds the checksums of all tensors.
        indices = sorted(checkpoint.glob("*.index"))
        settings["checkpoint"] = [fingerprint(path) for path in indices]
        return settings

    def _build(self, checkpoint: Path, tokenizer: Tokenizer) -> None:
        from classifier_training import (
            Schedule,
            Trainer,
            build_classifier,
            compile_classifier,
            encode_examples,
            set_seed,
        )

        arguments = self.arguments
        self.batches = {
            name: encode_examples(
                tokenizer,
                examples,
                self.labels,
                arguments.maxlen,
                arguments.batch_size,
                arguments.seed,
            )
            for name, examples in self.examples.items()
        }
        schedule = Schedule(
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            accumulate=arguments.accumulate,
            learning_rate=arguments.learning_rate,
            warmup=arguments.warmup,
            seed=arguments.seed,
            save_every=arguments.save_every,
        )
        set_seed(arguments.seed)
        self.model = build_classifier(
            len(self.labels),
            checkpoint / CONFIG_FILE,
            checkpoint,
            pooling=arguments.pooling,
        )
        compile_classifier(self.model, schedule, len(self.batches["train"]))
        self.trainer = Trainer(self.model, schedule, self.output)
        self.trainer.restore()

    def train(self) -> None:
        """Trains to the end, from the saved state if there is one."""
        from training_state import replacing, write_json

        self.output.mkdir(parents=True, exist_ok=True)
        for path in self.output.glob("*.tmp*"):  # left by a run that was killed
            path.unlink()
        write_json(self.output / SETTINGS_FILE, self.settings)
        for name in (CONFIG_FILE, VOCAB_FILE):
            content = (Path(self.arguments.checkpoint) / name).read_bytes()
            with replacing(self.output / name) as file:
                file.write(content)
        self.trainer.run(self.batches["train"], self.batches["valid"])

    def report(self) -> dict:
        """Scores the best weights, prints and writes the results, draws the curves."""
        from classifier_report import sample_lines, save_curves
        from classifier_training import WEIGHTS_FILE, predict_probabilities, scores
        from training_state import load_weights, write_json

        progress = self.trainer.progress
        load_weights(self.output / WEIGHTS_FILE, self.model)
        name = "test" if "test" in self.examples else "valid"
        batches = self.batches[name]
        probabilities = predict_probabilities(self.model, batches)
        results = {name: scores(probabilities, batches.labels)}
        results.update(best=progress["best"], history=progress["history"])
        print(
            f"\nBest weights: epoch {progress['best']['epoch']}, by validation accuracy"
        )
        print(f"Accuracy on {name}: {results[name]['accuracy']:.4f}")
        print(f"Macro F1 on {name}: {results[name]['macro_f1']:.4f}")
        for line in sample_lines(self.examples[name], probabilities, self.labels):
            print(line)
        write_json(self.output / RESULTS_FILE, results)
        print(f"Results and weights are in {self.output}")
        if importlib.util.find_spec("matplotlib") is None:
            print(
                "No curves: matplotlib is not installed. After `pip install "
                "matplotlib` the same command with --resume draws them"
            )
            return results
        curves = self.output / CURVES_FILE
        save_curves(progress["history"], progress["best"], curves)
        print(f"Curves are in {curves}")
        return results


def prepare_demo(
    arguments: argparse.Namespace, sizes: dict[str, int] | None = None, **pretraining
) -> argparse.Namespace:
    """Writes synthetic reviews and a tiny BERT pre-trained on them.

    Args:
        arguments: of the command line, without files.
        sizes: numbers of texts, see `synthetic_reviews.write_dataset`.
        pretraining: see `tiny_bert.pretrain`.

    Returns:
        Arguments for a `Run` on what was written.
    """
    folder = Path(arguments.output)
    checkpoint, output = folder / "tiny-bert", folder / "classifier"
    if not arguments.resume:
        remove_outputs(output)
    print(f"Demonstration on synthetic reviews, in {folder}", flush=True)
    paths = write_dataset(folder / "synthetic-reviews", seed=1, **(sizes or {}))
    if not (arguments.resume and (checkpoint / "bert_model.ckpt.index").exists()):
        from tiny_bert import pretrain

        texts = paths["unlabelled"].read_text(encoding="utf-8").splitlines()
        print(f"Pre-training a tiny BERT on {len(texts)} texts", flush=True)
        pretrain(checkpoint, texts, make_vocabulary(), **pretraining)
    print(f"{checkpoint}: {', '.join(sorted(p.name for p in checkpoint.iterdir()))}")
    files = {name: str(paths[name]) for name in ("train", "valid", "test")}
    print_baseline(files)
    return argparse.Namespace(
        **{
            **vars(arguments),
            **files,
            "checkpoint": str(checkpoint),
            "output": str(output),
        }
    )


def print_baseline(files: dict[str, str]) -> None:
    """Says what single characters tell about the labels of the test file."""
    training = read_training_file(files["train"])
    test = read_labelled_file(files["test"], training)
    pairs = [
        [(text[0], label) for text, label in zip(e.texts, e.labels, strict=True)]
        for e in (training, test)
    ]
    accuracy = bag_of_words_accuracy(*pairs)
    print(f"For comparison, a bag of characters: accuracy {accuracy:.4f} on test")


def print_predictions(arguments: argparse.Namespace) -> None:
    """Prints `label<TAB>probability<TAB>text` for each line of a file."""
    output = Path(arguments.output)
    settings = json.loads(checked_file(output / SETTINGS_FILE).read_text("utf-8"))
    labels = settings["labels"]
    examples = read_texts(arguments.predict, tuple(settings["columns"]), set(labels))
    print(examples.describe(), file=sys.stderr)
    vocab = load_vocab(checked_file(output / VOCAB_FILE))
    config = checked_file(output / CONFIG_FILE)

    from classifier_training import (
        WEIGHTS_FILE,
        build_classifier,
        encode_examples,
        predict_probabilities,
        scores,
    )
    from training_state import load_weights

    weights = checked_file(output / WEIGHTS_FILE)
    tokenizer = Tokenizer(vocab, do_lower_case=settings["lower_case"])
    batches = encode_examples(tokenizer, examples, labels, settings["maxlen"])
    model = build_classifier(len(labels), config, pooling=settings["pooling"])
    load_weights(weights, model)
    probabilities = predict_probabilities(model, batches)
    for texts, p in zip(examples.texts, probabilities, strict=True):
        print(labels[p.argmax()], f"{p.max():.4f}", *texts, sep="\t")
    if batches.labels is not None:
        found = scores(probabilities, batches.labels)
        print(
            f"Accuracy {found['accuracy']:.4f}, macro F1 {found['macro_f1']:.4f}",
            file=sys.stderr,
        )


def checked_file(path: Path) -> Path:
    """`path`, or FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path


def read_config(path: Path, maxlen: int) -> dict:
    """The configuration of a checkpoint that has `maxlen` positions."""
    try:
        config = json.loads(checked_file(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    positions = config.get("max_position_embeddings", maxlen)
    if maxlen > positions:
        raise ValueError(
            f"--maxlen is {maxlen}, but the checkpoint has {positions} positions; "
            f"give at most {positions}"
        )
    return config


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def backend_name() -> str:
    import keras

    return keras.backend.backend()


def check_output(output: Path, settings: dict, resume: bool) -> None:
    """Whether a run with these settings may write into a folder.

    Raises:
        FileExistsError: something is there and the run is not to be resumed.
        ValueError: what is there belongs to a run with other settings.
    """
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; choose another --output")
    # Files of this suffix were being written when a run was killed.
    found = [p for p in output.glob("*") if p.suffix != ".tmp"]
    if not found:
        return
    if not resume:
        raise FileExistsError(
            f"{output} is not empty; add --resume to go on with the run in it, or "
            "choose another --output"
        )
    path = checked_file(output / SETTINGS_FILE)
    before = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in settings if settings[key] != before.get(key)]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{output} holds a run with other settings ({', '.join(differing)} differ: "
            f"{key} was {before.get(key)}, now {settings[key]}); resume it with the "
            "same arguments and files, or choose another --output"
        )


def remove_outputs(output: Path) -> None:
    """Deletes the files of an earlier run of the demonstration."""
    names = (SETTINGS_FILE, RESULTS_FILE, CURVES_FILE, CONFIG_FILE, VOCAB_FILE)
    for name in (*names, "state.npz", "best.weights.h5"):
        (output / name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
