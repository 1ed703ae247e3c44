"""Preparation: the originals of a data set are read once, and its store is written."""
