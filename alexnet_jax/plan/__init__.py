"""The plan of a training step: its communication, read from the program and by arithmetic, its
memory, and forecasts of its time.
"""
