"""State trees to files and back."""
