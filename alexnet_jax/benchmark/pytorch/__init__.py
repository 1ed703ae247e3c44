"""The same net and loader in PyTorch, to compare with."""
