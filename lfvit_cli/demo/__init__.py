"""What comes with the package so that every command works bare: photos, trained weights and predictions."""
