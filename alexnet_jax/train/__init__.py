"""Training: a run's parts assembled once, the step and its loss, and the loop."""
