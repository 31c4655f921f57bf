"""Decoders: from the network's log probabilities to words with their frames."""
