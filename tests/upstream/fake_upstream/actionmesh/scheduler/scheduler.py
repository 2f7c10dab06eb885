"""Where stage I finds its progress bar."""

tqdm = iter
