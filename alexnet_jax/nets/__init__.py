"""The networks: layers as data, their shapes, what they compute, and the Linen module."""
