"""The base of all other code: result types, errors, probabilities, devices, files."""
