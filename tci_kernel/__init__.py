"""A Jupyter kernel whose cells run in a remote TCI session."""
