"""A notebook as a step of the pipeline: a folder with MLproject, conda.yml and script.py."""
