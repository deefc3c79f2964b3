"""Pictures, opened safely."""
