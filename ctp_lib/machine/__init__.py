"""What a piece of work needs, and what this machine has."""
