"""A user's own script, run as it is, with its gradients planned."""
