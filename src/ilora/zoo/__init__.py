"""The embedded generators: what they are (cards), what they weigh, and how each was trained."""
