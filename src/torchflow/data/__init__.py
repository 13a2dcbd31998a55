"""Datasets: factories, composition, batches and encoders."""
