"""What everything else stands on: result types, errors, probabilities, devices, files."""
