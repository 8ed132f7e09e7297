"""Branch B: embeddings of a foundation model, and a contrastive head on them."""
