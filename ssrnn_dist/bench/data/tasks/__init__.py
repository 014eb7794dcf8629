"""What runs in fresh processes, some of a peer's own Python, which has numpy, torch and the one library only."""
