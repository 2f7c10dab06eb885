"""TripoSG, as seen from outside."""
