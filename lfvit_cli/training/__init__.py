"""How the networks learn: losses, data, starting weights, the loop."""
