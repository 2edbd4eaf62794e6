"""What layers made of dense layers share."""

from __future__ import annotations

import keras


class CompositeLayer(keras.layers.Layer):
    """Base of layers that are made of dense layers.

    LoRA and quantization act on the dense layers inside. Which of them are quantized
    is part of the configuration, so that a quantized model can be saved and loaded.

    Args:
        sublayer_dtypes: by the dense layer's name, its serialized dtype policy where
            that is not the layer's own; made by `get_config`.
        **kwargs: the arguments of every Keras layer.
    """

    def __init__(self, sublayer_dtypes: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        self._sublayer_dtypes = dict(sublayer_dtypes or {})

    def add_dense(
        self,
        units: int,
        name: str,
        input_shape,
        activation=None,
        use_bias: bool | None = None,
        kernel_initializer=None,
    ) -> keras.layers.Dense:
        """Make and build a dense layer.

        Args:
            units: width of its output.
            name: its name, one for each dense layer of this layer.
            input_shape: the shape of its input.
            activation: its activation.
            use_bias: whether it has a bias; None is this layer's `use_bias`.
            kernel_initializer: its initializer; None is this layer's. A copy is taken,
                because one object gives equal numbers each time.

        Returns:
            The layer; the caller has to keep it as an attribute.
        """
        dtype = self.dtype_policy
        if name in self._sublayer_dtypes:
            dtype = keras.dtype_policies.deserialize(self._sublayer_dtypes[name])
        if use_bias is None:
            use_bias = self.use_bias
        if kernel_initializer is None:
            kernel_initializer = self.kernel_initializer
        dense = keras.layers.Dense(
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=keras.initializers.get(kernel_initializer).clone(),
            dtype=dtype,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        dtypes = {
            layer.name: keras.dtype_policies.serialize(layer.dtype_policy)
            for layer in self._flatten_layers(include_self=False, recursive=False)
            if layer.quantization_mode is not None
        }
        if dtypes:
            config["sublayer_dtypes"] = dtypes
        return config
