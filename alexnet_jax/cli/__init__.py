"""The command line: flags, the rules of every setting, and what has to be right before a run."""
