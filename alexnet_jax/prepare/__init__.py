"""Reads a data set's originals once and writes its store."""
