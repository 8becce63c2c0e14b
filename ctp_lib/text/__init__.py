"""Documents -> splits -> windows of tokens."""
