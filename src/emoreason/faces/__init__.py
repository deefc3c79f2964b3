"""Find faces in a picture, level and crop them."""
