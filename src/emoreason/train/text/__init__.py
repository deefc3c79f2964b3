"""Language models: explainers, and texts of your own."""
