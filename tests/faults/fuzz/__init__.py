"""Random hostile inputs for everything that reads what strangers send: `make fuzz`.

One module per corpus, each with `run(count, seed, tell) -> Findings`; `__main__.py` lists them.
`file_corpus.py` is the loop of the corpora that are files, `findings.py` what a run returns.
"""
