"""The networks: layers as data, their shapes, their arithmetic, and the Linen module."""
