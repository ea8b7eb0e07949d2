"""Stage one, offline: image pairs to captions, embeddings, loss weights and shards."""
