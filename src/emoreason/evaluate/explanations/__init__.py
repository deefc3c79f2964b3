"""The explanation benchmark: are the texts true to the evidence?"""
