"""The only import of TensorFlow: it takes seconds, and most commands never need it."""

import functools
import os
from types import ModuleType


@functools.cache
def tensorflow() -> ModuleType:
    """Imports TensorFlow and hides all GPUs from it, because JAX needs their memory."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # useless for images, and logs a warning
    import tensorflow as tf

    # TensorFlow would otherwise reserve nearly all memory of every GPU.
    tf.config.set_visible_devices([], "GPU")
    return tf
