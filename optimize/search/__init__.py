"""A search for the model that fits a budget: networks around a recipe's, timed first and trained by halves."""
