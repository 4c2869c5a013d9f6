"""Where the results of batches are found again: an index beside the segments, never the truth."""
