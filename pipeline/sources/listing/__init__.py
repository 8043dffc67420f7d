"""From INPUT to the files that are read: patterns, what is left out, formats by content, columns of folders."""
