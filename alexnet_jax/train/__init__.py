"""Training: the session with the parts of a run, the step and its loss, and the loop."""
