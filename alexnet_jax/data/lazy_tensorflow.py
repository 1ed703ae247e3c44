"""The one place that imports TensorFlow."""

import functools
import os
from types import ModuleType


@functools.cache
def tensorflow() -> ModuleType:
    """TensorFlow, which sees no GPU: the GPUs' memory belongs to JAX."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # of no use to images, and announces itself
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf
