"""Inside the child process: the steps of a job, its progress reports and its output files."""
