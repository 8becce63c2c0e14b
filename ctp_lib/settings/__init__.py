"""``params.yaml`` as checked objects, the levels as people write them, and where each thing of a study lies."""
