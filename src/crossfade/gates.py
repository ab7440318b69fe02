"""What must hold before a model may advance."""
