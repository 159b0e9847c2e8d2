"""What an experiment is: one YAML file, validated."""
