"""What is put on a frozen compressed model to repair it: one file a method, and the one training loop."""
