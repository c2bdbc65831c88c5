"""The pages' views, a module for each room they show."""
