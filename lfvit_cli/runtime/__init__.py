"""How a network runs over batches: device, precision, compilation, the exit itself."""
