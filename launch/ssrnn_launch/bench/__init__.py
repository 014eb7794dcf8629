"""`ssrnn bench launch`: what Ray, DeepSpeed, MLflow and the ledger cost, how soon a run starts, how soon it recovers."""
