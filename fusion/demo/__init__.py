"""A web page for people: fuse two images or videos, browse a store, look at a benchmark. Serves this machine only."""
