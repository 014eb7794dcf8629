"""What runs have cost, side by side: from any MLflow or from run folders. Imports nothing; its files one by one."""
