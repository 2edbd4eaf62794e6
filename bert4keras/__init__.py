"""bert4keras: build, load and fine-tune Transformers in Keras 3."""

__version__ = "1.0.0.dev0"
