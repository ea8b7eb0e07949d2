"""What this project knows as data: data sets, tasks, recipes and published results (YAML, CSV)."""
