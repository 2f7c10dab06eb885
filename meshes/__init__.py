"""The files' craft: mesh arrays in, GLB, zip, video and poster out. Knows no job, HTTP or torch."""
