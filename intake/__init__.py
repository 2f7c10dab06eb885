"""Checks of untrusted input: file types, names, URLs and uploaded clips. Depends on no job."""
