"""Opening pictures safely."""
