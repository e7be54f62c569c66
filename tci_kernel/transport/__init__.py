"""How cells and questions reach a session."""
