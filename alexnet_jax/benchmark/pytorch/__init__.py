"""The same net and loader in PyTorch, for comparison."""
