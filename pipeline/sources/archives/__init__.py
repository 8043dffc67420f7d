"""Tar archives: members, links and samples."""
