"""The shares of a batch that several hosts read, for any size that hypothesis thinks of."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import Split
from alexnet_jax.data.pipeline import evaluation_batches, steps_per_epoch


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_shares_of_any_number_of_hosts_are_disjoint_and_complete(images, hosts, each):
    """Image i is filled with i, so that its pixels say which image it is."""
    batch = hosts * each
    pixels = np.broadcast_to(
        np.arange(images, dtype=np.uint8)[:, None, None, None], (images, 1, 1, 3)
    )
    split = Split(np.ascontiguousarray(pixels), np.arange(images, dtype=np.int32))
    shares = [slice(i * each, (i + 1) * each) for i in range(hosts)]
    parts = [
        list(evaluation_batches(split, batch, device_bytes=10**6, share=share)) for share in shares
    ]
    seen = []
    for step in range(steps_per_epoch(images, batch)):
        read = np.concatenate([np.asarray(part[step]["image"])[:, 0, 0, 0] for part in parts])
        real = parts[0][step]["mask"] > 0
        np.testing.assert_array_equal(read, parts[0][step]["label"])
        seen += read[real].tolist()
    assert seen == list(range(images))
