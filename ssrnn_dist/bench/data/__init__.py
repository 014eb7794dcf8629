"""`ssrnn bench data`: reading, building, resuming and dealing of corpora, beside what others have, in one run."""
