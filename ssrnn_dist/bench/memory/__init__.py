"""`ssrnn bench memory`: synthetic tasks whose answer lies far back, by each rule and by a Transformer."""
