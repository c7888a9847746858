"""What a network does: its cost, its speed, its predictions."""
