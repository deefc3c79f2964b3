"""How a model does on damaged and covered faces, and on pictures that show no face."""
