"""Scene and facts -> the words of a report."""
