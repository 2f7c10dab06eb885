"""The CPU pipeline: segment the subject, inflate its outline, track it. Depth is invented."""
