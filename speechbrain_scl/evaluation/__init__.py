"""Trial lists, embeddings, scores, metrics and the report."""
