"""Built-in load: seeded prompts of many kinds, each with one answer that the demo model is trained on."""
