"""Copy a model's rows from the legacy store to the target while the application writes."""
