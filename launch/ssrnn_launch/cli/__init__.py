"""One file a command group; heavy imports stand inside the commands."""
