"""Predictors, one file each, found by entry point (`fairlead.predictors`)."""
