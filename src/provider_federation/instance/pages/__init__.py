"""The instance's own pages: what its people see and do in a browser."""
