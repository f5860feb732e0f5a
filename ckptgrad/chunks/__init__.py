"""Parts of a stage run over chunks of an axis: one more way to save memory."""
