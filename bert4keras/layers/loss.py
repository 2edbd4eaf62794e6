"""A layer that computes a loss of the model."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="bert4keras")
class Loss(keras.layers.Layer):
    """Adds a loss that needs several tensors, and passes its inputs on.

    Derive from it and override `compute_loss`. The model is then compiled without a
    loss.

    Args:
        output_axis: which of the inputs to pass on: None for all, a number, or a list
            of numbers.

    Call arguments:
        inputs: a tensor or a list of them.
        mask: their masks; Keras fills it in.

    Returns:
        The inputs that `output_axis` selects, unchanged.

    Example:
        >>> class CrossEntropy(Loss):
        ...     def compute_loss(self, inputs, mask=None):
        ...         y_true, y_pred = inputs
        ...         return keras.ops.mean(
        ...             keras.losses.sparse_categorical_crossentropy(y_true, y_pred))
        >>> output = CrossEntropy(1)([y_true, y_pred])
    """

    def __init__(self, output_axis: int | list[int] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.output_axis = output_axis
        self.supports_masking = True
        # Token ids must not be cast to a float type.
        self._convert_input_args = False

    def compute_loss(self, inputs, mask=None):
        """The loss, a scalar tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_loss.")

    def call(self, inputs, mask=None):
        """Add the loss, select the outputs."""
        self.add_loss(self.compute_loss(inputs, mask))
        return self._select(inputs)

    def _select(self, items):
        if self.output_axis is None:
            return items
        if isinstance(self.output_axis, list | tuple):
            return [items[i] for i in self.output_axis]
        return items[self.output_axis]

    def compute_mask(self, inputs, previous_mask=None):
        """The masks of what is passed on."""
        return None if previous_mask is None else self._select(previous_mask)

    def compute_output_shape(self, input_shape):
        """The shapes of what is passed on."""
        return self._select(input_shape)

    def compute_output_spec(self, inputs, mask=None):
        """Shapes and dtypes of what is passed on."""
        # New symbols: handing back the inputs' own would tie a knot in the graph.
        return keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), self._select(inputs)
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "output_axis": self.output_axis}
