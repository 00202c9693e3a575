"""What a trained expert needs to be watched, described and published."""
