"""The benchmark: rates of the step and the loader, start-up time and memory of a training run."""
