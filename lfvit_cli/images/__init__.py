"""From image files to batches: folders, transforms, splits, the demo photos."""
