"""Turns encoder features into evidence: labels as text, trained heads, calibration, abstention."""
