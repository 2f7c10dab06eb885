"""Inside the child process: the recipe of a job, its progress reports and its output files."""
