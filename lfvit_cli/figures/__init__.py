"""Pictures from records: curves, bars and regions."""
