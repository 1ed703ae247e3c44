"""What `plan` works out: a step's communication, by reading it and by arithmetic, and forecasts."""
