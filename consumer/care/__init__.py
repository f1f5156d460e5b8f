"""Looking after a data folder: verify, repair, snapshot, restore."""
