"""What measurements mean: exit curves, operating points and intervals, from tables alone."""
