"""What a run leaves behind: the ledger of its cost, the history of its steps, its MLflow run and its report.

Imports nothing: ledger, history, tracker and report are imported one by one, as mlflow and matplotlib are slow."""
