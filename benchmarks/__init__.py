"""Speed, side by side with the libraries that one would use without digitsearch; `make bench` runs all of it."""
