"""Where jobs run: a resident child process on this machine, or actors on a Ray cluster."""
