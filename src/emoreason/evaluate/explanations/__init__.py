"""The explanation benchmark, which checks whether texts are true to the evidence."""
