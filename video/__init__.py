"""The frames' craft: untrusted video file in, a Clip of sampled frames out. Knows no job."""
