"""The pages of the workbench, a module each: `show` draws one, for whoever looks at it."""
