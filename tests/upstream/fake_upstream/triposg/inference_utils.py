"""Where TripoSG keeps diso's name."""


class DiffDMC:
    """Never called here."""
