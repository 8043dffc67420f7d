"""Text in files: compression, encodings, lines, CSV and JSON."""
