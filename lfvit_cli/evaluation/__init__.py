"""What every stage answers to every image, once, into a table."""
