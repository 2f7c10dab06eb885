"""The HTTP layer: one file per kind of route. It streams bytes and runs no model code."""
