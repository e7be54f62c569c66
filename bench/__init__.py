"""How fast TCI Python is beside a stock ipykernel, near and far: `make bench`."""
