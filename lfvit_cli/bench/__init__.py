"""How fast networks are on real photos, and how much of what their MACs promise."""
