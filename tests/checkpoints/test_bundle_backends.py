"""Arrays of each backend go into a checkpoint and come back."""

import keras
import numpy as np

from bert4keras.checkpoints import CheckpointReader, write_checkpoint


def test_weights(tmp_path, backend):
    layer = keras.layers.Dense(3, dtype="mixed_bfloat16", name="dense")
    layer.build((None, 2))
    half = keras.Variable(layer.kernel, dtype="float16", name="half")
    write_checkpoint(
        tmp_path / "m", {"half": half, **{v.path: v for v in layer.weights}}
    )
    reader = CheckpointReader(tmp_path, verify=True)
    assert reader.keys() == ["dense/bias", "dense/kernel", "half"]
    for variable in layer.weights:
        expected = keras.ops.convert_to_numpy(variable)
        assert reader.dtype(variable.path) == "float32"
        np.testing.assert_array_equal(reader[variable.path], expected)
    assert reader.dtype("half") == "float16"
    np.testing.assert_array_equal(reader["half"], keras.ops.convert_to_numpy(half))


def test_views_become_weights(tmp_path, backend):
    """The views are read-only, and every backend copies them into its variables."""
    kernel = np.arange(6, dtype="float32").reshape(2, 3)
    write_checkpoint(tmp_path / "m", {"kernel": kernel})
    layer = keras.layers.Dense(3, use_bias=False)
    layer.build((None, 2))
    with CheckpointReader(tmp_path) as reader:
        layer.set_weights([reader["kernel"]])
        layer.kernel.assign_add(keras.ops.ones((2, 3)))
        np.testing.assert_array_equal(reader["kernel"], kernel)
    np.testing.assert_array_equal(layer.get_weights()[0], kernel + 1)
