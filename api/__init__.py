"""The HTTP door: one file per kind of route. Streams bytes, answers from memory, computes not."""
