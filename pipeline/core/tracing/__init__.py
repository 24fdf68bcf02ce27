"""What a traced step has read: files, folders, packages and variables."""
