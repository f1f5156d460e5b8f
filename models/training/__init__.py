"""Programs that train, measure and export the two encoders of our own; they need PyTorch."""
