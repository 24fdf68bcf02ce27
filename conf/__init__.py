"""The files of each configuration group; Hydra finds them as ``pkg://conf``."""
