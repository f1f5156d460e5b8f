"""What a message is: envelope, keys, identity, day, counters. Pure; knows no socket and no disk."""
