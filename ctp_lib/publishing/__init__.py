"""What the study made, as folders that a hub takes."""
