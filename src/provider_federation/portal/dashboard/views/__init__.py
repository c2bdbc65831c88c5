"""The pages, a module for each room they show."""
