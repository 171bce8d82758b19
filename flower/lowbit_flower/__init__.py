"""lowbit's federation as a Flower app."""
