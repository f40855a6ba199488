"""From texts to an encoder: views, batches, objectives, the trainer and its recipes.

Nothing here searches an index or reads judgments.
"""
