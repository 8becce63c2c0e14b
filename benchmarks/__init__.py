"""What the study's speed is worth: each file here lays one piece of work beside what people would use instead, in one run."""
