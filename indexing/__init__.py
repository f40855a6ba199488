"""Search structures: FAISS, BM25, tf-idf, their fusion, and the index folder that holds them.

Nothing here trains or judges.
"""
