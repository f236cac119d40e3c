"""The demo: a small model that really answers, and the commands that train and check it."""
