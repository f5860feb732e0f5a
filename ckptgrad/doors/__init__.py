"""What users call: one file per door."""
