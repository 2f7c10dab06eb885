"""Measures ActionMesh on this machine's GPU in one run: see __main__.py."""
