"""A day that is over: when it closes, who folds it, in which process, and what is tried again."""
