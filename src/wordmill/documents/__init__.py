"""Documents: Markdown as Word, ODT, PDF; and Google Drive, where they may go."""
