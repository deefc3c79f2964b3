"""Faces in a picture: found, leveled and cropped."""
