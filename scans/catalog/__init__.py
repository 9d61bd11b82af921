"""What ``data_catalog.yaml`` may say: regions, datasets, tasks, settings of synthesis, terms."""
