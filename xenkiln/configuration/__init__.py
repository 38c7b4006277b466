"""What is done to every installed tree, whatever its family: accounts, keys, files, scripts."""
