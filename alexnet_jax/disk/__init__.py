"""Files on disk: complete writes, checksums, and the errors of a full disk."""
