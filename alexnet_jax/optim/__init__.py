"""The optimizer: the paper's update rule and its learning-rate schedules."""
