"""Training sets drawn in shares, near-duplicate clips kept together, and leaks between sets."""
