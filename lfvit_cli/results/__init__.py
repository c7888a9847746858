"""The store of records, and the text forms of their tables."""
