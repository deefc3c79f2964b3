"""What is known about emotions and faces, as data: label sets, action units, and the words for both."""
