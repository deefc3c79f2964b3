"""From features to evidence: labels as text, trained heads, calibration, abstention."""
