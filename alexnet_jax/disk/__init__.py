"""Files on disk: written completely or not at all, verified later, and a disk that is full."""
