"""Train PyTorch models with a loop you can trust."""
