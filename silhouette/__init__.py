"""The CPU pipeline: inflates the subject's outline and tracks it. Depth is invented."""
