"""How good is it: trec_eval metrics, BEIR runs, intervals, paired tests and reports.

Nothing here trains or serves.
"""
