"""Label heads and measures on frozen features."""
