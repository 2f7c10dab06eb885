"""Reads an untrusted video file and gives a Clip of sampled frames. Depends on no job."""
