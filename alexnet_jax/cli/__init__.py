"""The command line: flags, the rules of every setting, and the checks before a run."""
