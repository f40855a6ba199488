"""Text in: corpora, BEIR folders, words, tokenizers and the memory-mapped token store.

Nothing here knows about models, indexes or metrics.
"""
