"""From a pretrained model to one's own classes in minutes."""
