"""Published checkpoints: found in their repository, downloaded, checked."""
