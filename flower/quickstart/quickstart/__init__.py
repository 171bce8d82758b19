"""Flower's PyTorch quickstart: its network and training, written anew, with lowbit's codec around it."""
