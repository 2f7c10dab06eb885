"""The CPU pipeline: cut the subject out, inflate its outline, track it. Depth is invented."""
