"""How the small models were made that ship with the study."""
