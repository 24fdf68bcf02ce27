"""Where a data set comes from: files, web servers, cloud storage, databases."""
