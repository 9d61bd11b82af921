"""What a training leaves behind: folder, log, events, history, report."""
