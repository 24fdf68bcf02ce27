"""Models in use: registry, promotion, prediction and serving."""
