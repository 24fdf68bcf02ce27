"""Who ran which code: git, snapshots, origin."""
