"""Derived optimizers: any optimizer with one thing changed around its update.

An optimizer moves a variable by a change computed from its gradients,

    theta_{t+1} = theta_t + d_t,    d_t = -gamma_t h(g_1, ..., g_t).

`DerivedOptimizer` is the hook on which every trick of this package hangs. While the
base optimizer updates a variable, what it would write to that variable is not written
but taken as `d_t`; the tricks change it, one after the other, and it is written once.
Nothing of the base is copied, and since `d_t` itself is taken, not the difference of
two weights, no precision is lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import keras
from keras import ops

from bert4keras.checks import check_learning_rate, warn_of_unmatched

PACKAGE = "bert4keras"


@dataclasses.dataclass(frozen=True)
class Update:
    """What a trick may know about the update of one variable.

    Attributes:
        variable: the model's `keras.Variable`; its `path` names it.
        value: the weights theta_t before the update, a tensor.
        gradient: the gradient that the base was given, a dense tensor.
        change: d_t as the base proposes it, a dense tensor.
        learning_rate: gamma_t for this variable, schedules and multipliers included.
        step: real updates done before this one, an integer tensor.
    """

    variable: Any
    value: Any
    gradient: Any
    change: Any
    learning_rate: Any
    step: Any


class _Capture:
    """Takes the writes to one variable while its base optimizer updates it."""

    def __init__(self):
        self.key = None
        self.change = None
        self.depth = 0

    @contextlib.contextmanager
    def target(self, key):
        self.key, self.change = key, None
        try:
            yield self
        finally:
            self.key = None

    @contextlib.contextmanager
    def real_update(self):
        # A counter: the replica threads of tf.distribute overlap here.
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def take(self, change):
        if self.change is not None:
            raise NotImplementedError(
                "The base optimizer writes a model variable twice in one update, "
                "which a derived optimizer cannot follow. Write it once."
            )
        self.change = change


class DerivedOptimizer:
    """The hook: mixed in before a Keras optimizer, it lets tricks change its updates.

    A trick is a subclass that overrides one of

    - `propose(update)`: returns a new change; tricks act in the order of application;
    - `arrive(update, value)`: returns the weights to write, given those that the
      proposed change leads to;
    - `observe(update, value)`: looks at the weights that are written;
    - `learning_rate_multiplier(variable)`: a factor for one variable's learning rate.

    Each calls `super()` first. All of them run once per variable and *real* update.
    """

    trick: str | None = None

    # Whether `propose` would leave a change of some rows as it is (TensorFlow).
    passes_rows = False

    def __init__(self, *args, **kwargs):
        check_learning_rate(args[0] if args else kwargs.get("learning_rate"))
        super().__init__(*args, **kwargs)
        self._capture = _Capture()

    # What tricks override.

    def propose(self, update: Update):
        return update.change

    def arrive(self, update: Update, value):
        return value

    def observe(self, update: Update, value):
        pass

    def learning_rate_multiplier(self, variable) -> float:
        return 1.0

    def patterns(self) -> dict[str, tuple[str, ...]]:
        """The trick's arguments that select variables, and their patterns."""
        return {}

    # What tricks ask.

    @property
    def in_real_update(self) -> bool:
        """Whether the base is updating variables now."""
        return self._capture.depth > 0

    def matches(self, variable, patterns) -> bool:
        """Whether one of `patterns` is a part of the variable's path."""
        return any(pattern in variable_path(variable) for pattern in patterns)

    def add_counts(self, variables, name: str) -> list:
        """An integer for each of `variables`, 0 at first, as part of the state."""
        return [
            self.add_variable((), dtype="int32", name=state_name(variable, name))
            for variable in variables
        ]

    # What Keras calls.

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        paths = [variable_path(variable) for variable in variables]
        for argument, patterns in self.patterns().items():
            warn_of_unmatched(argument, patterns, paths)

    def apply(self, grads, trainable_variables=None):
        with self._capture.real_update():
            super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        if not self._has_tricks:
            super().update_step(gradient, variable, learning_rate)
            return
        model_variable = self._trainable_variables[self._get_variable_index(variable)]
        multiplier = self.learning_rate_multiplier(model_variable)
        if multiplier != 1.0:
            learning_rate = ops.cast(learning_rate, variable.dtype) * multiplier
        value = _snapshot(variable)
        if multiplier == 0.0:
            change = ops.zeros_like(value)
        else:
            change = self._base_change(gradient, variable, learning_rate, value)
        if is_rows(change) and self._writes_rows:
            super().assign_add(variable, change)
            return
        change = ops.cast(dense(change), variable.dtype)
        self._write(
            variable,
            Update(
                variable=model_variable,
                value=value,
                gradient=ops.cast(dense(gradient), variable.dtype),
                change=change,
                learning_rate=ops.cast(learning_rate, variable.dtype),
                step=ops.convert_to_tensor(self.iterations),
            ),
        )

    def assign(self, variable, value):
        if self._captures(variable):
            self._capture.take(ops.subtract(value, ops.convert_to_tensor(variable)))
        else:
            super().assign(variable, value)

    def assign_add(self, variable, value):
        if self._captures(variable):
            self._capture.take(value)
        else:
            super().assign_add(variable, value)

    def assign_sub(self, variable, value):
        if self._captures(variable):
            self._capture.take(ops.negative(value))
        else:
            super().assign_sub(variable, value)

    def _apply_weight_decay(self, variables):
        if not (self._has_tricks and self._decays_as_keras_does):
            super()._apply_weight_decay(variables)

    # The update of one variable.

    @property
    def _has_tricks(self) -> bool:
        cls = type(self)
        return any(
            getattr(cls, name) is not getattr(DerivedOptimizer, name)
            for name in ("propose", "arrive", "observe", "learning_rate_multiplier")
        )

    @property
    def _writes_rows(self) -> bool:
        cls = type(self)
        whole = any(
            getattr(cls, name) is not getattr(DerivedOptimizer, name)
            for name in ("arrive", "observe")
        )
        proposing = [part for part in cls.__mro__ if "propose" in vars(part)]
        proposing.remove(DerivedOptimizer)
        return not whole and all(part.passes_rows for part in proposing)

    def _captures(self, variable) -> bool:
        key = self._capture.key
        return key is not None and self._var_key(variable) == key

    def _base_change(self, gradient, variable, learning_rate, value):
        """The base's whole change of `variable`, its own weight decay included."""
        rate = self._native_decay_rate(variable)
        decay = None
        if rate is not None:
            # Keras decays first, and the base then works on the decayed weights.
            learning_rate = ops.cast(learning_rate, variable.dtype)
            decay = ops.multiply(value, ops.cast(rate, variable.dtype) * learning_rate)
            super().assign(variable, ops.subtract(value, decay))
        with self._capture.target(self._var_key(variable)) as capture:
            super().update_step(gradient, variable, learning_rate)
        change = capture.change
        if change is None:
            raise NotImplementedError(
                f"{type(self).__name__} cannot be derived: its base optimizer updates "
                "variables other than through `self.assign`, `self.assign_add` or "
                "`self.assign_sub`. Let its `update_step` use these."
            )
        return change if decay is None else ops.subtract(change, decay)

    def _write(self, variable, update):
        change = self.propose(update)
        value = self.arrive(update, ops.add(update.value, change))
        super().assign(variable, value)
        self.observe(update, value)

    @property
    def _decays_as_keras_does(self) -> bool:
        method = getattr(super(), "_apply_weight_decay")  # noqa: B009
        return method.__func__.__module__.partition(".")[0] == "keras"

    def _native_decay_rate(self, variable):
        """The rate of the base's own decoupled weight decay for a variable, or None."""
        if not self._decays_as_keras_does or not self._use_weight_decay(variable):
            return None
        if isinstance(self, keras.optimizers.Muon) and self._should_use_adamw(
            self._trainable_variables[self._get_variable_index(variable)]
        ):
            return self.adam_weight_decay
        return self.weight_decay

    # Serialization.

    @classmethod
    def _recipe(cls) -> dict:
        """The base's registered name and the tricks in their order of application."""
        tricks = []
        for part in cls.__mro__:
            if vars(part).get("trick") is not None:
                tricks.insert(0, vars(part)["trick"])
            elif part is not DerivedOptimizer and "made_by_extend" not in vars(part):
                name = keras.saving.get_registered_name(part)
                if getattr(keras.optimizers, part.__name__, None) is part:
                    # A derived class may have the name of one of Keras's.
                    name = f"keras>{part.__name__}"
                return {"name": cls.__name__, "base": name, "tricks": tricks}
        raise TypeError(f"{cls.__name__} has no base optimizer.")

    def get_config(self) -> dict:
        return {**super().get_config(), "derived": self._recipe()}

    def __reduce__(self):
        # Pickle and deepcopy name a function of a class: this one need not be found.
        load, arguments = super().__reduce__()
        return getattr(keras.optimizers.Optimizer, load.__name__), arguments

    @classmethod
    def from_config(cls, config: dict, custom_objects=None):
        config = dict(config)
        recipe = config.pop("derived", None)
        if cls is DerivedOptimizer:
            cls = _class_of(recipe, custom_objects)
            return cls.from_config(config, custom_objects=custom_objects)
        return super().from_config(config, custom_objects=custom_objects)


# The name under which every derived optimizer is saved: its config says how to make
# the class again, so that a process which never called `extend_with_...` can load it.
keras.saving.register_keras_serializable(PACKAGE)(DerivedOptimizer)

_TRICKS: dict[str, type[DerivedOptimizer]] = {}


def trick(cls: type[DerivedOptimizer]) -> type[DerivedOptimizer]:
    """Class decorator: makes a mixin known by its `trick` name for loading."""
    _TRICKS[cls.trick] = cls
    return cls


def extend(mixin: type[DerivedOptimizer], base: type, name: str | None = None) -> type:
    """Returns the class that adds the trick `mixin` to the optimizer class `base`.

    Args:
        mixin: the trick, a subclass of `DerivedOptimizer`.
        base: a subclass of `keras.optimizers.Optimizer`, derived or not.
        name: the new class's name; by default the base's followed by the trick's.

    Raises:
        ValueError: if `base` is no optimizer class or has the trick already.
    """
    if not (isinstance(base, type) and issubclass(base, keras.optimizers.Optimizer)):
        raise ValueError(
            "`BaseOptimizer` must be a subclass of keras.optimizers.Optimizer. "
            f"Received: BaseOptimizer={base!r}"
        )
    names = ("LossScaleOptimizer", "MultiOptimizer")
    wrappers = [getattr(keras.optimizers, n, None) for n in names]
    if any(wrapper and issubclass(base, wrapper) for wrapper in wrappers):
        raise ValueError(
            f"{base.__name__} wraps optimizers and updates no variable itself. "
            "Extend the optimizer inside it instead."
        )
    if issubclass(base, mixin):
        raise ValueError(f"{base.__name__} has the trick {mixin.trick!r} already.")
    if name is None:
        name = base.__name__ + "".join(
            word.capitalize() for word in mixin.trick.split("_")
        )
    cls = _combine(mixin, base, name)
    keras.saving.get_custom_objects()[_registered_name(name)] = cls
    return cls


def _combine(mixin, base, name):
    attributes = {"__doc__": mixin.__doc__, "__module__": __name__}
    cls = type(name, (mixin, base), {**attributes, "made_by_extend": True})
    # Registering sets both directions, class to name and name to class; the second
    # has to stay DerivedOptimizer, which makes whatever class a config asks for.
    register = keras.saving.register_keras_serializable
    register(PACKAGE, name=DerivedOptimizer.__name__)(cls)
    register(PACKAGE)(DerivedOptimizer)
    return cls


def _registered_name(name):
    # By the name of an optimizer of Keras, saved models mean that one.
    is_taken = hasattr(keras.optimizers, name)
    return f"{PACKAGE}>{DerivedOptimizer.__name__}>{name}" if is_taken else name


def _class_of(recipe, custom_objects):
    """The derived class that a saved recipe describes."""
    find = keras.saving.get_registered_object
    own_name = _registered_name(recipe["name"])
    for known in (find(recipe["name"], custom_objects), find(own_name)):
        is_derived = isinstance(known, type) and issubclass(known, DerivedOptimizer)
        if is_derived and known._recipe() == recipe:
            return known
    name = recipe["base"]
    if name.startswith("keras>"):
        base = getattr(keras.optimizers, name.removeprefix("keras>"), None)
    else:
        base = find(name, custom_objects)
    if base is None:
        raise ValueError(
            f"The saved optimizer {recipe['name']} is derived from {name}, which is "
            "not known here. Decorate that class with "
            "`keras.saving.register_keras_serializable()` and import it before "
            "loading, or pass it in `custom_objects`."
        )
    *inner, last = recipe["tricks"]
    for part in inner:
        base = _combine(_TRICKS[part], base, base.__name__)
    # A class that the program itself gave this name keeps it.
    make = extend if find(own_name) is None else _combine
    return make(_TRICKS[last], base, recipe["name"])


def variable_path(variable) -> str:
    """The path by which patterns find a variable, as "Embedding-Token/embeddings"."""
    return getattr(variable, "path", variable.name)


def state_name(variable, name: str) -> str:
    """The name of an optimizer's variable for one of the model's."""
    return f"{variable_path(variable)}_{name}".replace("/", "_").replace(":", "_")


def wide_dtype(variable) -> str:
    """The data type for sums and averages: at least 32 bits.

    With 16 bits, they drop summands that are small beside them.
    """
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def add_wide_variable(optimizer, variable, name: str):
    """Adds zeros of the shape of `variable` and its wide type to the state."""
    return optimizer.add_variable(
        variable.shape,
        dtype=wide_dtype(variable),
        layout=getattr(variable, "_layout", None),
        name=state_name(variable, name),
    )


def is_rows(tensor) -> bool:
    """Whether `tensor` is TensorFlow's `IndexedSlices`: some rows of a tensor."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(tensor, tf.IndexedSlices)


def dense(tensor):
    """`tensor` itself, or the sum that TensorFlow's `IndexedSlices` stand for."""
    if not is_rows(tensor):
        return tensor
    import tensorflow as tf

    return tf.convert_to_tensor(tensor)


def in_xla() -> bool:
    """Whether the TensorFlow function being traced will be compiled by XLA."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def _snapshot(variable):
    """The variable's value as a tensor that later writes do not change."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Keras returns TensorFlow's variables as they are.
        return tf.convert_to_tensor(variable)
    value = ops.convert_to_tensor(variable)
    # PyTorch writes in place.
    return value.detach().clone() if backend == "torch" else value
