"""What a user sees and does in JupyterLab and Notebook: real ones, in a real browser."""
