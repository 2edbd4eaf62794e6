"""Checkpoints go both ways between this project and TensorFlow."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from bert4keras.checkpoints import (
    CheckpointError,
    CheckpointReader,
    CorruptCheckpointError,
    UnsupportedCheckpointError,
    write_checkpoint,
)
from bert4keras.checkpoints.table import BLOCK_SIZE

pytestmark = pytest.mark.pure  # needs TensorFlow itself, not the Keras backend

SIGNED = ["int8", "int16", "int32", "int64", "float16", "float32", "float64"]
OTHERS = ["bool", "uint8", "uint16", "uint32", "uint64", "complex64", "complex128"]


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def varied_tensors():
    rng = np.random.default_rng(0)
    tensors = {
        **{f"dtype/{n}": (rng.normal(size=(3, 5)) * 9).astype(n) for n in SIGNED},
        **{f"dtype/{n}": rng.integers(0, 200, (7,)).astype(n) for n in OTHERS},
    }
    tensors["dtype/bfloat16"] = rng.normal(size=(3, 5)).astype(ml_dtypes.bfloat16)
    tensors["scalar"] = np.float32(2.5)
    tensors["flag"] = np.array([True])  # the next one is not aligned in TensorFlow's
    tensors["nan"] = np.array([np.nan, -0.0, np.inf])
    tensors["empty"] = np.zeros((0, 4), "float32")
    tensors["empty/inside"] = np.zeros((2, 0, 4), "int32")
    tensors["large"] = rng.normal(size=(300, 301)).astype("float32")  # 361 KB
    tensors["名字/词向量"] = np.arange(4, dtype="int64")
    tensors["a" * 5000] = np.ones(1)
    for layer in range(400):
        tensors[f"bert/encoder/layer_{layer}/kernel"] = np.full((2, 2), layer)
    return tensors


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def save(tf, prefix, tensors, specs=None):
    """TensorFlow's own write of one shard; the specs are those of slices."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=specs or [""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


@pytest.mark.parametrize("num_shards", [1, 5])
def test_tensorflow_reads_every_value(tf, tmp_path, num_shards):
    tensors = varied_tensors()
    prefix = tmp_path / "m.ckpt"
    write_checkpoint(prefix, tensors, num_shards)
    assert (tmp_path / "m.ckpt.index").stat().st_size > 4 * BLOCK_SIZE
    reader = tf.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    assert shapes.keys() == tensors.keys()
    for name, value in tensors.items():
        assert tuple(shapes[name]) == value.shape
        assert dtypes[name].as_numpy_dtype == value.dtype
        assert_same(np.asarray(reader.get_tensor(name)), value)


def test_tensorflow_reads_a_checkpoint_of_nothing(tf, tmp_path):
    write_checkpoint(tmp_path / "m", {})
    assert (
        tf.train.load_checkpoint(str(tmp_path / "m")).get_variable_to_shape_map() == {}
    )
    assert CheckpointReader(tmp_path / "m", verify=True).keys() == []


@pytest.mark.parametrize("num_shards", [1, 3])
def test_every_value_of_tensorflow_is_read(tf, tmp_path, num_shards):
    tensors = varied_tensors()
    names = list(tensors)
    parts = [tmp_path / f"part-{number}" for number in range(num_shards)]
    for number, part in enumerate(parts):
        save(tf, part, {name: tensors[name] for name in names[number::num_shards]})
    prefix = tmp_path / "m.ckpt"
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(part) for part in parts],
        destination_prefix=str(prefix),
    )
    reader = CheckpointReader(prefix, verify=True)
    assert reader.num_shards == num_shards
    assert set(reader) == set(tensors)
    for name, value in tensors.items():
        assert_same(reader[name], value)
        assert reader[name].flags.aligned
        assert not reader[name].flags.writeable


def test_an_index_of_several_of_tensorflows_blocks(tf, tmp_path):
    rng = np.random.default_rng(1)
    tensors = {rng.bytes(150).hex(): np.int32(number) for number in range(1200)}
    save(tf, tmp_path / "m", tensors)
    assert (tmp_path / "m.index").stat().st_size > 1 << 18  # TensorFlow's block size
    reader = CheckpointReader(tmp_path)
    assert {name: int(reader[name]) for name in reader} == tensors


def test_variables_saved_in_slices(tf, tmp_path):
    """Starts and lengths on both sides of every change of their encoded width."""
    rng = np.random.default_rng(2)
    name = "词/\x01embedding"
    tensors, parts = {}, []
    bounds = [0, 1, 63, 64, 65, 200, 8191, 8193, 20000, 1_048_575, 1_048_577]
    big = rng.integers(0, 100, bounds[-1]).astype("int8")
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        part = tmp_path / f"part-{number}"
        spec = f"{big.size} {start},{stop - start}"
        save(tf, part, {name: big[start:stop]}, [spec])
        parts.append(str(part))
    tensors[name] = big
    grid = rng.normal(size=(5, 4, 3)).astype("float32")
    for row, column in np.ndindex(2, 2):
        part = tmp_path / f"grid-{row}{column}"
        rows, columns = [(0, 2), (2, 3)][row], [(0, 1), (1, 3)][column]
        piece = grid[rows[0] : sum(rows), columns[0] : sum(columns)]
        spec = f"5 4 3 {rows[0]},{rows[1]}:{columns[0]},{columns[1]}:-"
        save(tf, part, {"grid": piece}, [spec])
        parts.append(str(part))
    tensors["grid"] = grid
    texts = np.array([[b"a", "字".encode()], [b"", b"ccc"]], object)
    for row in range(2):
        part = tmp_path / f"text-{row}"
        save(tf, part, {"text": texts[row : row + 1]}, [f"2 2 {row},1:-"])
        parts.append(str(part))
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "m.ckpt")
    )
    reader = CheckpointReader(tmp_path / "m.ckpt", verify=True)
    assert reader.keys() == sorted([*tensors, "text"])
    for name, value in tensors.items():
        assert reader.shape(name) == value.shape
        assert_same(reader[name], value)
        assert not reader[name].flags.writeable
    assert reader["text"].tolist() == texts.tolist()


def test_a_saver_of_tensorflow_1(tf, tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("global_step", initializer=np.int64(9))
        embeddings = v1.get_variable(
            "embeddings", (10, 4), partitioner=v1.fixed_size_partitioner(3)
        )
        session.run(v1.global_variables_initializer())
        v1.train.Saver(sharded=True).save(session, str(tmp_path / "model.ckpt"), 9)
        table = session.run(tf.convert_to_tensor(embeddings))
    reader = CheckpointReader(
        tmp_path, verify=True
    )  # the folder, as TensorFlow left it
    assert reader.prefix.name == "model.ckpt-9"
    assert reader.keys() == ["embeddings", "global_step"]
    assert_same(reader["embeddings"], table)
    assert reader["global_step"] == 9


def test_an_object_graph_of_tensorflow_2(tf, tmp_path):
    value = np.arange(6, dtype="float32").reshape(2, 3)
    path = tf.train.Checkpoint(w=tf.Variable(value)).save(str(tmp_path / "c"))
    reader = CheckpointReader(path, verify=True)
    expected = tf.train.load_checkpoint(path)
    assert reader.keys() == sorted(expected.get_variable_to_shape_map())
    assert_same(reader["w/.ATTRIBUTES/VARIABLE_VALUE"], value)
    graph = "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert reader.shape(graph) == ()
    assert reader.dtype(graph) == np.dtype(object)
    assert reader[graph].item() == expected.get_tensor(graph)


def test_string_tensors(tf, tmp_path):
    texts = {
        "many": np.array([[b"", b"a" * 300], ["字".encode(), b"\0\xff"]], object),
        "none": np.array([], object),
        "one": np.array(b"x", object),
    }
    save(tf, tmp_path / "m", {k: tf.constant(v, "string") for k, v in texts.items()})
    reader = CheckpointReader(tmp_path, verify=True)
    for name, value in texts.items():
        assert reader.shape(name) == value.shape
        assert reader[name].tolist() == value.tolist()
    write_checkpoint(tmp_path / "ours", texts)
    expected = tf.train.load_checkpoint(str(tmp_path / "ours"))
    for name, value in texts.items():
        found = np.asarray(expected.get_tensor(name), object)
        assert found.tolist() == value.tolist()


def test_dtypes_that_are_not_read(tf, tmp_path):
    quantized = tf.bitcast(tf.constant([1, 2], tf.int8), tf.qint8)
    save(tf, tmp_path / "m", {"w": tf.ones(2)})
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"),
        tensor_names=["q", "w"],
        shape_and_slices=["", ""],
        tensors=[quantized, tf.ones(2)],
    )
    reader = CheckpointReader(tmp_path)
    assert reader.keys() == ["q", "w"]
    assert reader["w"].tolist() == [1, 1]
    with pytest.raises(UnsupportedCheckpointError, match="number 11"):
        reader["q"]


def test_damage_that_tensorflow_finds_is_found(tf, tmp_path):
    """A flip is refused here wherever TensorFlow refuses it."""
    save(tf, tmp_path / "m", {"a/w": np.arange(3.0), "a/b": np.ones(2, "float32")})
    path = tmp_path / "m.index"
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        try:
            found = tf.train.load_checkpoint(str(tmp_path / "m"))
            found = {n: found.get_tensor(n) for n in found.get_variable_to_shape_map()}
        except (tf.errors.OpError, RuntimeError, IndexError):
            refused += 1
            with pytest.raises(CheckpointError):
                CheckpointReader(tmp_path)
    assert refused > len(content) / 2


def test_flipped_data_of_tensorflow_is_found(tf, tmp_path):
    save(tf, tmp_path / "m", {"w": np.arange(8.0), "x": np.ones(3)})
    data = tmp_path / "m.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[70] ^= 1
    data.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match="'x'"):
        CheckpointReader(tmp_path, verify=True)
    CheckpointReader(tmp_path).verify(["w"])
