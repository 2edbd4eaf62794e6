"""Scripts written for bert4keras 0.11.5 run with their imports unchanged."""

import json

import numpy as np
import pytest

from bert4keras.models import build_transformer_model as build

LABELS = {"好": 1, "坏": 0}


@pytest.fixture
def release(tmp_path):
    """A tiny official-format release, and a file of labelled texts beside it."""
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"这本书那家店真很不好坏了。",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    config = {
        "vocab_size": len(tokens),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
    }
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    builder = build(config, with_nsp=True, with_mlm=True, return_keras_model=False)
    rng = np.random.default_rng(0)
    for weight in builder.model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    builder.save_weights_as_checkpoint(tmp_path / "bert_model.ckpt")
    lines = [
        f"{first}{second}{word}了。\t{label}"
        for first in ("这本", "那家", "这家")
        for second in ("书", "店", "很", "真")
        for word, label in LABELS.items()
    ]
    (tmp_path / "train.data").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_sentiment_script(release):
    from bert4keras.backend import keras, set_gelu
    from bert4keras.models import build_transformer_model
    from bert4keras.optimizers import Adam, extend_with_piecewise_linear_lr
    from bert4keras.snippets import DataGenerator, open, sequence_padding
    from bert4keras.tokenizers import Tokenizer

    set_gelu("tanh")
    maxlen, batch_size = 16, 4
    tokenizer = Tokenizer(str(release / "vocab.txt"), do_lower_case=True)

    def load_data(filename):
        data = []
        with open(filename, encoding="utf-8") as file:
            for line in file:
                text, label = line.strip().split("\t")
                data.append((text, int(label)))
        return data

    class MyGenerator(DataGenerator):
        def __iter__(self, random=False):
            batch_token_ids, batch_segment_ids, batch_labels = [], [], []
            for is_end, (text, label) in self.sample(random):
                token_ids, segment_ids = tokenizer.encode(text, maxlen=maxlen)
                batch_token_ids.append(token_ids)
                batch_segment_ids.append(segment_ids)
                batch_labels.append([label])
                if len(batch_token_ids) == self.batch_size or is_end:
                    batch_token_ids = sequence_padding(batch_token_ids)
                    batch_segment_ids = sequence_padding(batch_segment_ids)
                    batch_labels = sequence_padding(batch_labels)
                    yield [batch_token_ids, batch_segment_ids], batch_labels
                    batch_token_ids, batch_segment_ids, batch_labels = [], [], []

    data = load_data(str(release / "train.data"))
    generator = MyGenerator(data, batch_size)
    bert = build_transformer_model(
        config_path=str(release / "bert_config.json"),
        checkpoint_path=str(release / "bert_model.ckpt"),
        with_pool=True,
        return_keras_model=False,
    )
    output = keras.layers.Dropout(rate=0.1)(bert.model.output)
    output = keras.layers.Dense(
        units=2, activation="softmax", kernel_initializer=bert.initializer
    )(output)
    model = keras.models.Model(bert.model.input, output)
    AdamLR = extend_with_piecewise_linear_lr(Adam, name="AdamLR")  # noqa: N806
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=AdamLR(learning_rate=3e-3, lr_schedule={10: 1, 1000: 0.1}),
        metrics=["accuracy"],
    )

    class Evaluator(keras.callbacks.Callback):
        best = 0.0

        def on_epoch_end(self, epoch, logs=None):
            if epoch % 10 != 9:
                return  # a test has little time
            right = total = 0
            for x_true, y_true in generator:
                y_pred = model.predict(x_true, verbose=0).argmax(axis=1)
                right += (y_true[:, 0] == y_pred).sum()
                total += len(y_true)
            if right / total > self.best:
                self.best = right / total
                model.save_weights(str(release / "best_model.weights.h5"))

    evaluator = Evaluator()
    model.fit(
        generator.forfit(),
        steps_per_epoch=len(generator),
        epochs=20,
        callbacks=[evaluator],
        verbose=0,
    )
    set_gelu("erf")
    assert evaluator.best > 0.9  # the words 好 and 坏 decide
    model.load_weights(str(release / "best_model.weights.h5"))


def test_extracting_features_script(release):
    from bert4keras.models import build_transformer_model
    from bert4keras.snippets import to_array
    from bert4keras.tokenizers import Tokenizer

    tokenizer = Tokenizer(str(release / "vocab.txt"), do_lower_case=True)
    model = build_transformer_model(
        str(release / "bert_config.json"), str(release / "bert_model.ckpt")
    )
    token_ids, segment_ids = tokenizer.encode("这本书真好")
    token_ids, segment_ids = to_array([token_ids], [segment_ids])
    assert model.predict([token_ids, segment_ids], verbose=0).shape == (1, 7, 16)


def test_masked_language_model_script(release):
    from bert4keras.models import build_transformer_model
    from bert4keras.snippets import to_array
    from bert4keras.tokenizers import Tokenizer

    tokenizer = Tokenizer(str(release / "vocab.txt"), do_lower_case=True)
    model = build_transformer_model(
        config_path=str(release / "bert_config.json"),
        checkpoint_path=str(release / "bert_model.ckpt"),
        with_mlm=True,
    )
    token_ids, segment_ids = tokenizer.encode("这本书真好")
    token_ids[3] = token_ids[4] = tokenizer._token_mask_id
    token_ids, segment_ids = to_array([token_ids], [segment_ids])
    probas = model.predict([token_ids, segment_ids], verbose=0)[0]
    np.testing.assert_allclose(probas.sum(-1), 1, rtol=1e-5)
    assert isinstance(tokenizer.decode(probas[3:5].argmax(axis=1)), str)
