"""From the detectors' sockets to the journal: drain, open, admit, append; waits for nothing below."""
