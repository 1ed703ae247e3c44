"""The plan of a training step: what it sends, what it holds, and forecasts of its time."""
