"""One program a tool: the same requests sent through each. See `contract`."""
