"""Where people are: each channel translates, and holds no rule of the business."""
