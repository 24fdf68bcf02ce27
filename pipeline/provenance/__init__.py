"""The provenance of a run: git, snapshots of its code, developer and packages."""
